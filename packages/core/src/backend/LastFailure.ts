/**
 * Last failures: why the calls within a limit of time have no response.
 *
 * A backend retries a call until the call's own deadline, and its error then says what went wrong. A caller with a shorter
 * limit, such as the `acquireTimeout` of a lock, interrupts the call and would lose the reason. So it runs its work with
 * a record, in which backends enter each call for as long as it is in flight. The record belongs to that work alone: it
 * has no failure from before, and a success erases the failures that preceded it.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import { dual } from "effect/Function"
import * as KvError from "../values/KvError.ts"

/**
 * A call in flight, as its backend knows it.
 *
 * @since 0.1.0
 */
export interface Call {
  /**
   * Why the call has no response yet: the failure of its last attempt, or what it waits for. `undefined` if that is not
   * known. It is read only when a caller gives up, so it may be expensive. Like all errors, it contains no secret.
   */
  readonly lastFailure: KvError.Reason | undefined
}

/**
 * The record of the calls within one limit of time.
 *
 * @since 0.1.0
 */
export class LastFailure implements Call {
  /** The calls in flight, the oldest first. Made on first use. */
  #inFlight: Set<{ readonly call: Call }> | undefined
  /** The failure of the call that ended last, unless a later one succeeded. */
  #ended: KvError.Reason | undefined

  /** Why there is no response yet; `undefined` if that is not known, or if the last call to end has succeeded. */
  get lastFailure(): KvError.Reason | undefined {
    for (const { call } of this.#inFlight ?? []) {
      const reason = call.lastFailure
      if (reason !== undefined) return reason
    }
    return this.#ended
  }

  /** The failure of the call that ended last; `undefined` if it has succeeded. Calls in flight do not count. */
  get ended(): KvError.Reason | undefined {
    return this.#ended
  }

  /** Enters a call in the record for as long as the effect runs. */
  during<A, E, R>(effect: Effect.Effect<A, E, R>, call: Call): Effect.Effect<A, E, R> {
    return Effect.suspend(() => {
      const entry = { call }
      const inFlight = this.#inFlight ??= new Set()
      inFlight.add(entry)
      return Effect.onExitPrimitive(effect, (exit) => {
        inFlight.delete(entry)
        this.#note(exit)
        return undefined
      })
    })
  }

  #note(exit: Exit.Exit<unknown, unknown>): void {
    if (exit._tag === "Success") {
      this.#ended = undefined
      return
    }
    for (const reason of exit.cause.reasons) {
      if (reason._tag === "Fail" && KvError.isKvError(reason.error)) {
        this.#ended = isResponse(reason.error.reason) ? undefined : reason.error.reason
      }
    }
  }
}

/** Whether the store has responded to the request itself: it rejected the request, and can be used. */
const isResponse = ({ _tag }: KvError.Reason): boolean => {
  switch (_tag) {
    case "Compacted":
    case "FutureRevision":
    case "InvalidRequest":
    case "LeaseExists":
    case "LeaseNotFound":
    case "LockLost":
    case "RequestTooLarge":
      return true
    default:
      return false
  }
}

/**
 * The record of the fiber's calls; `undefined` if no caller would read it.
 *
 * @since 0.1.0
 */
export const Current: Context.Reference<LastFailure | undefined> = Context.Reference(
  "@effect-kv/core/LastFailure",
  { defaultValue: (): LastFailure | undefined => undefined }
)

/**
 * Enters a call in the fiber's record for as long as the effect runs. Without a record it is the effect itself.
 *
 * **When to use**
 *
 * In a backend, around each call with all its retries, so that a caller that gives up before the call's deadline can say why.
 *
 * @example
 * ```ts
 * import { KvError } from "@effect-kv/core"
 * import { LastFailure } from "@effect-kv/core/backend"
 * import { Effect } from "effect"
 *
 * const refused = new KvError.Unavailable({ message: "connection refused" })
 * const retried = Effect.never.pipe(LastFailure.during({ lastFailure: refused }))
 *
 * const program = Effect.gen(function*() {
 *   const limited = LastFailure.timeoutOrElse(retried, {
 *     duration: 10,
 *     orElse: (reason) => Effect.succeed(reason?.message)
 *   })
 *   yield* limited // => "connection refused"
 * })
 * ```
 *
 * @since 0.1.0
 */
export const during: {
  (call: Call): <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  <A, E, R>(effect: Effect.Effect<A, E, R>, call: Call): Effect.Effect<A, E, R>
} = dual(
  2,
  <A, E, R>(effect: Effect.Effect<A, E, R>, call: Call): Effect.Effect<A, E, R> =>
    Effect.withFiber((fiber) => fiber.getRef(Current)?.during(effect, call) ?? effect)
)

/**
 * Runs an effect with a record of its calls. A record around it sees them, too.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { LastFailure } from "@effect-kv/core/backend"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const record = new LastFailure.LastFailure()
 *   yield* Kv.put("a", "1").pipe(LastFailure.recorded(record))
 *   const failure = record.lastFailure // => undefined
 * })
 * ```
 *
 * @since 0.1.0
 */
export const recorded: {
  (record: LastFailure): <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  <A, E, R>(effect: Effect.Effect<A, E, R>, record: LastFailure): Effect.Effect<A, E, R>
} = dual(
  2,
  <A, E, R>(effect: Effect.Effect<A, E, R>, record: LastFailure): Effect.Effect<A, E, R> =>
    during(Effect.provideService(effect, Current, record), record)
)

/**
 * As `Effect.timeoutOrElse`. `orElse` gets why the effect's calls have no response, if that is known.
 *
 * @example
 * ```ts
 * import { Kv, KvError } from "@effect-kv/core"
 * import { LastFailure } from "@effect-kv/core/backend"
 * import { Effect, Option } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* LastFailure.timeoutOrElse(Kv.get("a"), {
 *     duration: "1 second",
 *     orElse: (reason) => KvError.fail(reason ?? new KvError.Unavailable({ message: "no response in time" }))
 *   }) // => Option.none()
 * })
 * ```
 *
 * @since 0.1.0
 */
export const timeoutOrElse = <A, E, R, A2, E2, R2>(
  effect: Effect.Effect<A, E, R>,
  options: {
    readonly duration: Duration.Input
    readonly orElse: (reason: KvError.Reason | undefined) => Effect.Effect<A2, E2, R2>
  }
): Effect.Effect<A | A2, E | E2, R | R2> =>
  Effect.suspend(() => {
    const record = new LastFailure()
    // Read before the effect is interrupted: then its calls are no longer in flight.
    const isOver = Effect.map(
      Effect.sleep(options.duration),
      (): Effect.Effect<A | A2, E2, R2> => options.orElse(record.lastFailure)
    )
    const inTime = Effect.map(recorded(effect, record), (a): Effect.Effect<A | A2, E2, R2> => Effect.succeed(a))
    return Effect.flatten(Effect.raceFirst(inTime, isOver))
  })
