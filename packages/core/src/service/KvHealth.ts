/**
 * The health of a store as this client sees it, for readiness probes.
 *
 * **When to use**
 *
 * For readiness: a replica that cannot use its store should receive no requests. Not for liveness: restarting a process
 * does not repair its store, and when the store returns, a fleet that was restarted all at once requests everything at
 * once. A liveness probe should only show that the process runs.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { execute } from "../backend/KvBackend.ts"
import * as LastFailure from "../backend/LastFailure.ts"
import * as internals from "../internal/kv/internals.ts"
import * as json from "../internal/values/json.ts"
import { monotonicMillis } from "../internal/values/monotonic.ts"
import * as Deadline from "../values/Deadline.ts"
import * as KvError from "../values/KvError.ts"
import * as Op from "../values/Op.ts"
import { Kv } from "./Kv.ts"

/**
 * Options of a check.
 *
 * @since 0.1.0
 */
export interface Options {
  /** How long the store has to respond. A positive duration. Default: 2 seconds. */
  readonly deadline?: Duration.Input | undefined
  /**
   * The part of its time to live, from 0 to 1, that every session of this client must have left. Sessions are renewed
   * at about 0.57. Default: 0.2.
   */
  readonly minMargin?: number | undefined
}

/**
 * The measurements of a healthy store.
 *
 * @since 0.1.0
 */
export interface Healthy {
  /** How long a linearizable read took. */
  readonly latency: Duration.Duration
  /** The smallest margin of this client's sessions, from 0 to 1; `none` if it has no session. */
  readonly margin: Option.Option<number>
}

const Problem = Schema.Struct({
  problem: Schema.Literals(["Unreachable", "Unauthenticated", "NoQuorum", "Alarm", "LowMargin", "Failed"]),
  message: Schema.String
})

/**
 * A problem of a store. `Unreachable`: no member responds. `Unauthenticated`: the store rejects the credentials.
 * `NoQuorum`: a member responds, but a linearizable read does not succeed. `Alarm`: the store has an active alarm.
 * `LowMargin`: a session is about to be lost. `Failed`: the read has failed for another reason.
 *
 * @since 0.1.0
 */
export interface Problem {
  readonly problem: "Unreachable" | "Unauthenticated" | "NoQuorum" | "Alarm" | "LowMargin" | "Failed"
  /** The problem in words, without values and secrets. */
  readonly message: string
}

/**
 * The store cannot be used as it should.
 *
 * @since 0.1.0
 */
export class Unhealthy extends Schema.Error<Unhealthy>("@effect-kv/core/KvHealth/Unhealthy")({
  _tag: Schema.tag("Unhealthy"),
  problems: Schema.NonEmptyArray(Problem)
}) {
  override get message(): string {
    return `the store is not healthy: ${
      this.problems.map(({ message, problem }) => `${problem} (${message})`).join("; ")
    }`
  }
  override toJSON(): unknown {
    return { ...json.fieldsOf(this), message: this.message }
  }
}

/**
 * Checks that the store is reachable, accepts the credentials, has a quorum and no alarm, and that no session of this
 * client is about to be lost. Fails with {@link Unhealthy}, which names every problem, within the deadline.
 *
 * **Details**
 *
 * It makes one linearizable read of a key that need not exist. A user that may not read it is healthy: the store has
 * then identified the user. On etcd it also requests the status of a member, and on Postgres whether the server and the
 * role can write. A store in memory is always healthy.
 *
 * **Gotchas**
 *
 * Check at most every few seconds: each check of each replica is a request to the store. An invalid option is a defect:
 * options are part of the program.
 *
 * @example
 * ```ts
 * import { KvHealth } from "@effect-kv/core"
 * import { Effect, Option } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const { margin } = yield* KvHealth.check({ deadline: "1 second" })
 *   Option.isNone(margin) // => true
 * })
 * ```
 *
 * @since 0.1.0
 */
export const check = (options?: Options): Effect.Effect<Healthy, Unhealthy, Kv> =>
  Effect.flatMap(Kv, (kv) => {
    const { origin, sessions, unfenced } = internals.of(kv)
    const { deadline, minMargin } = resolved(options)
    return Effect.gen(function*() {
      const clock = yield* Clock.Clock
      const began = monotonicMillis(clock)
      const within = <A>(effect: Effect.Effect<A, KvError.KvError>): Effect.Effect<Result.Result<A, KvError.KvError>> =>
        Effect.result(
          LastFailure.timeoutOrElse(Effect.provideService(effect, Deadline.Deadline, deadline), {
            duration: Duration.sum(deadline, grace),
            orElse: (why) =>
              KvError.fail(why ?? new KvError.DeadlineExceeded({ message: "the store did not respond in time" }))
          })
        )
      const [read, alarms] = yield* Effect.all([
        Effect.map(
          within(execute(unfenced, Op.get(probeKey, { countOnly: true }))),
          (result) => ({ result, latency: monotonicMillis(clock) - began })
        ),
        origin.alarms === undefined ? Effect.undefined : within(origin.alarms)
      ], { concurrency: "unbounded" })
      const margin = sessions.metrics.margin
      const [first, ...others] = [
        ...problemsOfRead(read.result, alarms !== undefined && Result.isSuccess(alarms)),
        ...problemsOfAlarms(alarms),
        ...problemsOfMargin(margin, minMargin)
      ]
      if (first !== undefined) return yield* new Unhealthy({ problems: [first, ...others] })
      return { latency: Duration.millis(read.latency), margin: Option.fromUndefinedOr(margin) }
    }).pipe(sessions.onClock)
  })

const resolved = ({ deadline: input = "2 seconds", minMargin = 0.2 }: Options = {}) => {
  const deadline = Duration.fromInput(input)
  if (Option.isNone(deadline) || !Duration.isPositive(deadline.value)) {
    throw new RangeError("the deadline of a health check must be a positive duration")
  }
  if (!(minMargin >= 0 && minMargin <= 1)) {
    throw new RangeError(`minMargin must be a number from 0 to 1, not ${minMargin}`)
  }
  return { deadline: deadline.value, minMargin }
}

/** The store enforces the deadline itself. This is for one that does not. */
const grace = Duration.millis(200)

/** Any key would do. */
const probeKey = "effect-kv/health"

const problemsOfRead = (
  read: Result.Result<unknown, KvError.KvError>,
  isReachable: boolean
): ReadonlyArray<Problem> => {
  if (Result.isSuccess(read)) return []
  const { _tag, message } = read.failure.reason
  switch (_tag) {
    case "PermissionDenied":
      return []
    case "Unauthenticated":
      return [{ problem: "Unauthenticated", message }]
    case "Unavailable":
    case "DeadlineExceeded":
      return [{ problem: isReachable ? "NoQuorum" : "Unreachable", message }]
    default:
      return [{ problem: "Failed", message }]
  }
}

const problemsOfAlarms = (
  alarms: Result.Result<ReadonlyArray<string>, KvError.KvError> | undefined
): ReadonlyArray<Problem> =>
  alarms === undefined || Result.isFailure(alarms)
    ? []
    : alarms.success.map((alarm) => ({ problem: "Alarm", message: `the alarm ${alarm} is active` }))

const problemsOfMargin = (margin: number | undefined, minMargin: number): ReadonlyArray<Problem> =>
  margin === undefined || margin >= minMargin ? [] : [{
    problem: "LowMargin",
    message: `a session has ${Math.round(margin * 100)} % of its time to live left, less than ` +
      `${Math.round(minMargin * 100)} %`
  }]
