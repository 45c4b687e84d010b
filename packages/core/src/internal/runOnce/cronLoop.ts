/**
 * The loop of one instance of a cron: wait for a tick or a change, decide, and run what is due.
 */
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { execute } from "../../backend/KvBackend.ts"
import type { Kv } from "../../service/KvService.ts"
import * as Compare from "../../values/Compare.ts"
import type * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import * as internals from "../kv/internals.ts"
import * as attempt from "./attempt.ts"
import * as decisions from "./decide.ts"
import * as model from "./model.ts"
import * as place from "./place.ts"
import type { Ticks } from "./ticks.ts"

export interface Job<A, E, R> {
  readonly kv: Kv
  readonly name: string
  readonly ticks: Ticks
  readonly policy: decisions.Policy
  readonly f: (tick: model.Tick) => Effect.Effect<A, E, R>
  readonly options: attempt.Options | undefined
}

/**
 * Waits for a time of the wall clock. A sleep follows the monotonic clock, and the two part when the machine is
 * suspended or its clock is set.
 */
const sleepUntil = (millis: number): Effect.Effect<void> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) =>
    now >= millis
      ? Effect.void
      : Effect.andThen(Effect.sleep(Math.min(millis - now, longestSleepMillis)), sleepUntil(millis)))

const longestSleepMillis = 30_000

/** How far ahead another instance's tick may be before that is logged, in milliseconds. */
const skewMillis = 60_000

export const run = <A, E, R>(job: Job<A, E, R>): Effect.Effect<never, KvError.KvError, R> =>
  Effect.gen(function*() {
    const { f, kv, name, options, policy, ticks } = job
    // Until the name is registered, ticks count from the start of this instance, also those of an outage since.
    let since = yield* Clock.currentTimeMillis
    let isSkewLogged = false
    const outages = outagesOf(job)

    const start = Effect.fnUntraced(function*(opened: place.Place, seen: place.Seen, tick: number, attempts: number) {
      if (yield* place.changesSoon(opened, seen)) return
      const exit = yield* attempt.make(
        opened,
        { tick: isoOf(tick), attempt: attempts, seen },
        (run) => f({ ...run, scheduled: DateTime.makeUnsafe(tick) }),
        options
      )
      if (Option.isSome(exit) && Exit.isFailure(exit.value)) yield* warnOfRun(name, tick, exit.value.cause)
      yield* place.untilChanged(opened, seen)
    })

    const step = Effect.fnUntraced(function*(opened: place.Place, seen: place.Seen) {
      const now = yield* Clock.currentTimeMillis
      if (seen.record?.tick !== undefined) {
        since = now
        if (!isSkewLogged && Date.parse(seen.record.tick) > now + skewMillis) {
          isSkewLogged = true
          yield* warnOfSkew(name, seen.record.tick, now)
        }
      }
      const decision = decisions.decide(seen, now, ticks, policy)
      switch (decision._tag) {
        case "Register":
          yield* register(job, since)
          return yield* place.untilChanged(opened, seen)
        case "Start":
          return yield* start(opened, seen, decision.tick, decision.attempts)
        case "Wait":
          return yield* decision.until === undefined
            ? seen.changed
            : Effect.raceFirst(seen.changed, sleepUntil(decision.until))
      }
    })

    // Views that have failed stay failed. So the place is opened again when it cannot be seen any more.
    return yield* Effect.forever(outages.pausing(Effect.scoped(
      Effect.flatMap(
        place.open(kv, name),
        (opened) =>
          Effect.forever(
            Effect.flatMap(place.seen(opened), (seen) => outages.pausing(outages.endedBy(step(opened, seen))))
          )
      )
    )))
  })

const isoOf = (millis: number): string => new Date(millis).toISOString()

/** Puts the first record, unless there is one. */
const register = <A, E, R>({ kv, name }: Job<A, E, R>, since: number): Effect.Effect<unknown, KvError.KvError> =>
  execute(
    internals.of(kv).unfenced,
    Op.txn({
      if: [Compare.missing(model.recordKeyOf(name))],
      then: [
        Op.put(model.recordKeyOf(name), model.encode({ tick: isoOf(since), state: "Waiting", by: "", attempts: 0 }))
      ]
    })
  )

/** What the loop does when the store cannot be reached: a warning for each outage, and a pause after each failure. */
const outagesOf = <A, E, R>({ kv, name }: Job<A, E, R>) => {
  let isOut = false
  return {
    /** Turns a failure into a pause, unless it is final. */
    pausing: <B, R2>(effect: Effect.Effect<B, KvError.KvError, R2>): Effect.Effect<void, KvError.KvError, R2> =>
      Effect.matchEffect(effect, {
        onSuccess: () => Effect.void,
        onFailure: (error) => {
          if (isFinal(error)) return Effect.fail(error)
          const warning = isOut ? Effect.void : warnOfOutage(name, error)
          isOut = true
          return Effect.andThen(warning, internals.of(kv).sessions.onClock(Effect.sleep("1 second")))
        }
      }),
    /** The outage has ended if the effect succeeds. */
    endedBy: <B, R2>(effect: Effect.Effect<B, KvError.KvError, R2>): Effect.Effect<B, KvError.KvError, R2> =>
      Effect.tap(effect, () =>
        Effect.sync(() => {
          isOut = false
        }))
  }
}

const isFinal = ({ reason: { _tag } }: KvError.KvError): boolean =>
  _tag === "Closed" || _tag === "InvalidRequest" || _tag === "PermissionDenied" || _tag === "RequestTooLarge"

const warnOfOutage = (job: string, error: KvError.KvError): Effect.Effect<void> =>
  Effect.annotateLogs(
    Effect.logWarning("effect-kv: a job could not be started, and that is repeated until it succeeds", error.message),
    { job }
  )

const warnOfRun = (job: string, tick: number, cause: Cause.Cause<unknown>): Effect.Effect<void> =>
  Effect.annotateLogs(Effect.logWarning("effect-kv: a job's run failed", cause), { job, tick: isoOf(tick) })

const warnOfSkew = (job: string, tick: string, now: number): Effect.Effect<void> =>
  Effect.annotateLogs(
    Effect.logWarning(
      "effect-kv: a job has run a tick that is in the future: this machine's clock is behind, or another's is ahead"
    ),
    { job, tick, now: isoOf(now) }
  )
