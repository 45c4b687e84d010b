/**
 * Work that runs once in a fleet: each tick of a schedule, or a step such as a migration.
 *
 * `cron` runs a job at each tick of a schedule, on one of the instances that call it. The time at which the tick was due
 * is its identity, so clocks that differ cannot run it twice, however short the job is. `forKey` runs an effect once for
 * a key: what is done stays done.
 *
 * The key `NAME/once/last` holds the record of the last run, and `NAME/once/run` exists while one is in progress, with the
 * runner's lease. One transaction starts a run and one ends it. All other instances follow the two keys by watches, and read
 * nothing.
 */
import type * as Cron from "effect/Cron"
import * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { execute } from "../backend/KvBackend.ts"
import * as internals from "../internal/kv/internals.ts"
import * as request from "../internal/queue/request.ts"
import * as attempt from "../internal/runOnce/attempt.ts"
import * as cronLoop from "../internal/runOnce/cronLoop.ts"
import * as model from "../internal/runOnce/model.ts"
import type { Run, Status, Tick } from "../internal/runOnce/model.ts"
import * as place from "../internal/runOnce/place.ts"
import * as ticksOf from "../internal/runOnce/ticks.ts"
import { Kv } from "../service/Kv.ts"
import type { Kv as KvService } from "../service/KvService.ts"
import * as KeyRange from "../values/KeyRange.ts"
import * as KvError from "../values/KvError.ts"
import type { LockHoldExceeded, LockLost } from "../values/LockError.ts"
import * as Op from "../values/Op.ts"

export type { Run, Status, Tick }

/**
 * Options of {@link forKey}.
 *
 * @since 0.1.0
 */
export interface Options<out Hold extends Duration.Input | undefined = Duration.Input | undefined> {
  /** Who runs it, such as a host name, for {@link status}. Not a secret. Default: empty. */
  readonly description?: string | undefined
  /**
   * Time to live of the runner's lease: how long it takes the others to notice that a runner has crashed. The lease is
   * renewed as long as the run lasts. Default: 10 seconds.
   */
  readonly ttl?: Duration.Input | undefined
  /**
   * How long a run may last. Then it is interrupted, and has failed with `LockHoldExceeded`. Default: indefinitely.
   */
  readonly maxHold?: Hold | undefined
}

/**
 * Options of {@link cron}.
 *
 * @since 0.1.0
 */
export interface CronOptions extends Options {
  /**
   * What happens to ticks that were missed: no instance was running, the store was away, or the run of an earlier tick
   * was still in progress.
   *
   * - `latest`: the latest of them is run, late. The others are not.
   * - `all`: each of them is run, late and in order.
   * - `skip`: none is. A tick counts as missed 10 seconds after its time.
   *
   * Default: `latest`.
   */
  readonly missed?: "latest" | "all" | "skip" | undefined
  /**
   * What happens to a tick whose runner crashed, was interrupted or lost its lease.
   *
   * - `retry`: it is run again, at least once in all, and {@link Tick.attempt} counts.
   * - `skip`: it is not run again, so no tick is started twice.
   *
   * Default: `retry`.
   */
  readonly onCrash?: "retry" | "skip" | undefined
}

/**
 * Runs a function at each tick of a schedule, once in the fleet. Start it on every instance. It does not end.
 *
 * **Details**
 *
 * A tick is run by the instance that first starts it, at the time of that instance's clock. The run's writes are fenced:
 * the store rejects them once another run may have started. A run that loses its lease is interrupted before that.
 *
 * A run that fails is logged as a warning and recorded as failed. It is not repeated: the next tick is. Ticks of one
 * name never overlap. An outage of the store is one warning; a tick that comes due in it is treated by `missed`.
 *
 * It fails only if another attempt cannot help: with `Closed`, `InvalidRequest`, `PermissionDenied`, or with
 * `RequestTooLarge` because of its description.
 *
 * **Gotchas**
 *
 * A `Cron` without a time zone is read as UTC, so that the next tick is the same on every machine. The schedule follows
 * the `Clock` of the calling fiber. The first instance of all registers the name: earlier ticks never come due.
 *
 * Effects on anything but the store cannot be fenced: pass them the `token`.
 *
 * @example
 * ```ts
 * import { Kv, RunOnce } from "@effect-kv/core"
 * import { Cron, DateTime, Effect, Fiber, Option } from "effect"
 *
 * const everySecond = Cron.parseUnsafe("* * * * * *", "UTC")
 * const program = Effect.gen(function*() {
 *   const report = (tick: RunOnce.Tick) => Kv.put("report", DateTime.formatIso(tick.scheduled))
 *   const fiber = yield* Effect.forkChild(RunOnce.cron("nightly", everySecond, report, { missed: "latest" }))
 *   yield* Kv.waitForChange("report")
 *   yield* Fiber.interrupt(fiber)
 *   Option.isSome(yield* Kv.get("report")) // => true
 * })
 * ```
 *
 * @since 0.1.0
 */
export const cron = <A, E, R>(
  name: string,
  schedule: Cron.Cron,
  f: (tick: Tick) => Effect.Effect<A, E, R>,
  options?: CronOptions
): Effect.Effect<never, KvError.KvError, R | Kv> =>
  Effect.gen(function*() {
    const kv = yield* Kv
    yield* checked(kv, name, options)
    return yield* cronLoop.run({
      kv,
      name,
      ticks: yield* ticksOf.of(schedule),
      policy: { missed: options?.missed ?? "latest", onCrash: options?.onCrash ?? "retry" },
      f,
      options
    })
  })

/**
 * Runs a function once for a key, and returns its result; `none` if another call has done it. Done stays done.
 *
 * **Details**
 *
 * If another client runs it, the call waits for the outcome. If the function fails, so does its call, and the next
 * call runs it again, as does a call that is waiting. The same holds if the runner crashed or was interrupted. So the
 * function must be safe to repeat: it may have stopped halfway. Its writes are fenced, as those of {@link cron}.
 *
 * It succeeds with `some` only if the store has recorded the run as done. If the outcome could not be recorded while
 * the lease was alive, it fails with `LockLost`, and the function is run again by the next call.
 *
 * **Gotchas**
 *
 * To run it once more, delete the key `KEY/once/last`. A fiber that is in the run of a key and requests it again fails with
 * `InvalidRequest`: it would wait for itself.
 *
 * @example
 * ```ts
 * import { Kv, RunOnce } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const migrate = RunOnce.forKey("migrate/42", () => Effect.as(Kv.put("format", "2"), "migrated"))
 *   yield* migrate // => Option.some("migrated")
 *   yield* migrate // => Option.none()
 * })
 * ```
 *
 * @since 0.1.0
 */
export const forKey = <A, E, R, Hold extends Duration.Input | undefined = undefined>(
  key: string,
  f: (run: Run) => Effect.Effect<A, E, R>,
  options?: Options<Hold>
): Effect.Effect<Option.Option<A>, E | Failure<Hold>, R | Kv> =>
  Effect.scoped(Effect.gen(function*() {
    const kv = yield* Kv
    yield* checked(kv, key, options)
    const [entry] = (yield* execute(internals.of(kv).unfenced, Op.get(model.recordKeyOf(key)))).entries
    if (entry !== undefined && (yield* place.recordOf(entry)).state === "Done") return Option.none<A>()
    yield* request.notWaitingForItself(kv, [attempt.claimOf(key)], "run")
    const opened = yield* place.open(kv, key)
    while (true) {
      const seen = yield* place.seen(opened)
      if (seen.record?.state === "Done") return Option.none<A>()
      if (seen.isRunning) {
        yield* seen.changed
        continue
      }
      if (seen.record?.state === "Running" && (yield* place.changesSoon(opened, seen))) continue
      const start = { tick: undefined, attempt: (seen.record?.attempts ?? 0) + 1, seen }
      const exit = yield* attempt.make(opened, start, f, options)
      if (Option.isSome(exit)) return Option.some(yield* exit.value)
      yield* place.untilChanged(opened, seen)
    }
  })) as Effect.Effect<Option.Option<A>, E | Failure<Hold>, R | Kv> // without `maxHold`, `LockHoldExceeded` cannot happen

/**
 * The failures of {@link forKey} besides those of the function. `LockHoldExceeded` is one of them only with `maxHold`.
 *
 * @since 0.1.0
 */
export type Failure<Hold extends Duration.Input | undefined = Duration.Input | undefined> =
  | KvError.KvError
  | LockLost
  | ([Hold] extends [undefined] ? never : LockHoldExceeded)

/**
 * The last run of a name; `none` if nothing was ever registered for it.
 *
 * @example
 * ```ts
 * import { RunOnce } from "@effect-kv/core"
 * import { Effect, Option } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* RunOnce.status("migrate/42") // => Option.none()
 *   yield* RunOnce.forKey("migrate/42", () => Effect.void, { description: "host a" })
 *   const status = Option.getOrThrow(yield* RunOnce.status("migrate/42"))
 *   status.state // => "Done"
 *   status.description // => "host a"
 * })
 * ```
 *
 * @since 0.1.0
 */
export const status = Effect.fnUntraced(function*(
  name: string
): Effect.fn.Return<Option.Option<Status>, KvError.KvError, Kv> {
  const kv = yield* Kv
  yield* checked(kv, name, undefined)
  const response = yield* execute(
    internals.of(kv).unfenced,
    Op.txn({ then: [Op.get(model.recordKeyOf(name)), Op.get(model.runKeyOf(name))] })
  )
  if (!response.succeeded) return Option.none()
  const [{ entries: [entry] }, { entries: [running] }] = response.responses
  if (entry === undefined) return Option.none()
  const { attempts, by, state, tick } = yield* place.recordOf(entry)
  return Option.some({
    state: state === "Running" && running === undefined ? "Crashed" : state,
    scheduled: Option.map(Option.fromUndefinedOr(tick), (tick) => DateTime.makeUnsafe(tick)),
    description: by,
    attempts
  })
})

const checked = Effect.fnUntraced(function*(kv: KvService, name: string, options: Options | undefined) {
  yield* request.checkDurations(options)
  const problem = KeyRange.invalidKey(name)
  if (problem !== undefined) {
    yield* KvError.fail(new KvError.InvalidRequest({ message: `the name of a job is a key, and ${problem}` }))
  }
  yield* request.roomForFence(kv, 1)
})
