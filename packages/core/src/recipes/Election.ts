/**
 * Elections: one leader at a time among the candidates of all processes, and everyone can see who it is.
 *
 * `use` is what most programs need. It waits until it leads, runs the effect, interrupts it when the
 * leadership is lost, and fences its writes. `singleton` keeps one instance of a service running in a fleet. `observe`
 * follows the leaders.
 *
 * An election is a lock whose key has a value: candidates queue in the order they came, as for `DistLock`. Go's
 * `concurrency.Election` and `etcdctl elect` of the same name are candidates of the same election. So is every other key
 * directly under `NAME/`: do not put data there.
 */
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { inChildScope } from "../internal/childScope.ts"
import * as candidacy from "../internal/election/candidacy.ts"
import * as candidatesOf from "../internal/election/candidates.ts"
import * as health from "../internal/election/health.ts"
import * as leadership from "../internal/election/leadership.ts"
import type { Candidacy, Candidate, Health, Leadership, ScopedLeadership } from "../internal/election/model.ts"
import * as internals from "../internal/kv/internals.ts"
import * as lockQueue from "../internal/lock/lockQueue.ts"
import * as contenders from "../internal/queue/contenders.ts"
import * as heldLock from "../internal/queue/heldLock.ts"
import { asLeadership } from "../internal/queue/lockOptions.ts"
import * as request from "../internal/queue/request.ts"
import * as queues from "../internal/queue/use.ts"
import { Kv } from "../service/Kv.ts"
import type { UnhealthyLeader } from "../values/ElectionError.ts"
import * as KvError from "../values/KvError.ts"
import type { LockLost, LockTimeout } from "../values/LockError.ts"
import * as DistLock from "./DistLock.ts"

export type { Candidacy, Candidate, Health, Leadership, ScopedLeadership }

/**
 * Options of {@link campaign}.
 *
 * @since 0.1.0
 */
export interface CampaignOptions {
  /**
   * What other clients see of the candidate and leader, such as its address: see {@link observe}. Not a secret. Default:
   * empty.
   */
  readonly value?: string | undefined
  /**
   * Time to live of the lease that holds the leadership: how long no other candidate leads after the leader crashes. The
   * lease is renewed as long as the leader lives. Default: 10 seconds.
   */
  readonly ttl?: Duration.Input | undefined
  /** How long to wait for the leadership; then fails with `LockTimeout` and leaves nothing. Default: indefinitely. */
  readonly acquireTimeout?: Duration.Input | undefined
}

/**
 * Options of {@link use}.
 *
 * **Details**
 *
 * `Timeout`, `Hold` and `Check` are the types of `acquireTimeout`, `maxHold` and `health`. If an option is not given, its type is
 * `undefined` and the failure it brings is not in the error type.
 *
 * @since 0.1.0
 */
export interface Options<
  out Timeout extends Duration.Input | undefined = Duration.Input | undefined,
  out Hold extends Duration.Input | undefined = Duration.Input | undefined,
  out Check extends Health | undefined = Health | undefined
> extends Omit<CampaignOptions, "acquireTimeout"> {
  /** How long to wait for the leadership; then fails with `LockTimeout` and leaves nothing. Default: indefinitely. */
  readonly acquireTimeout?: Timeout | undefined
  /**
   * How long it may lead, even if its lease is alive. Then the effect is interrupted and fails with `LockHoldExceeded`.
   * The leadership ends when the effect's finalizers have run. Default: indefinitely.
   */
  readonly maxHold?: Hold | undefined
  /**
   * A check that is repeated while it leads. If it fails, dies or does not end in time, the effect is interrupted and
   * fails with `UnhealthyLeader`. The leadership ends when the effect's finalizers have run. Default: none.
   */
  readonly health?: Check | undefined
  /** Whether the effect's writes are conditional on the leadership. Default: true. */
  readonly fenced?: boolean | undefined
}

/**
 * Options of {@link singleton}.
 *
 * @since 0.1.0
 */
export interface SingletonOptions<in A = unknown, in E = unknown, out R = never>
  extends Pick<Options, "value" | "ttl" | "maxHold" | "health" | "fenced">
{
  /**
   * When to campaign again after a run has ended. Its input is the exit of the run. If the schedule ends, so does the
   * singleton. Default: after about a second, indefinitely.
   */
  readonly schedule?: Schedule.Schedule<unknown, Exit.Exit<A, E | Failure>, never, R> | undefined
}

/**
 * The failures that campaigning and leading add to an effect's own. `LockTimeout` only with `acquireTimeout`,
 * `LockHoldExceeded` only with `maxHold`, and `UnhealthyLeader` only with `health`.
 *
 * @since 0.1.0
 */
export type Failure<
  Timeout extends Duration.Input | undefined = Duration.Input | undefined,
  Hold extends Duration.Input | undefined = Duration.Input | undefined,
  Check extends Health | undefined = Health | undefined
> = DistLock.LockFailure<Timeout, Hold> | ([Check] extends [undefined] ? never : UnhealthyLeader)

/**
 * Campaigns, waiting for its turn, and leads until the scope closes or the leadership is resigned.
 *
 * **Gotchas**
 *
 * The scope's owner is not interrupted when the leadership is lost, and its writes are not fenced: await `lost`, run
 * work with `DistLock.fenced(leadership.lock)`, or use {@link use}.
 *
 * @example
 * ```ts
 * import { Election } from "@effect-kv/core"
 * import { Effect, Option } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const leadership = yield* Election.campaign("billing", { value: "10.0.0.7" })
 *   yield* leadership.proclaim("10.0.0.8")
 *   const leader = yield* Election.leader("billing")
 *   Option.map(leader, ({ value }) => value) // => Option.some("10.0.0.8")
 *   yield* leadership.resign
 *   yield* leadership.isLeader // => false
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const campaign = (
  name: string,
  options?: CampaignOptions
): Effect.Effect<ScopedLeadership, KvError.KvError | LockTimeout | LockLost, Kv | Scope.Scope> =>
  inChildScope(
    (scope) =>
      Effect.map(
        Scope.provide(DistLock.acquire(name, lockOptions(options)), scope),
        (lock) => leadership.scoped(lock, Scope.close(scope, Exit.void))
      ),
    Exit.isSuccess
  )

/**
 * Enters the election, and returns once it is in the queue. The candidate waits for its turn in the background, leads
 * when it comes, and leaves when the scope closes.
 *
 * **When to use**
 *
 * If the candidate's value changes while it waits, or to do something else meanwhile. Otherwise {@link campaign}.
 *
 * **Gotchas**
 *
 * Once it is its turn it leads, whether `elected` is awaited or not.
 *
 * @example
 * ```ts
 * import { Election } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const leader = yield* Election.campaign("billing", { value: "worker a" })
 *   const candidacy = yield* Election.enter("billing", { value: "worker b, starting" })
 *   yield* candidacy.proclaim("worker b, ready")
 *   const candidates = yield* Election.candidates("billing")
 *   candidates.map(({ value }) => value) // => ["worker a", "worker b, ready"]
 *   yield* leader.resign
 *   const leadership = yield* candidacy.elected
 *   yield* leadership.isLeader // => true
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const enter = (
  name: string,
  options?: Omit<CampaignOptions, "acquireTimeout">
): Effect.Effect<Candidacy, KvError.KvError | LockLost, Kv | Scope.Scope> =>
  Effect.flatMap(Kv, (kv) =>
    Effect.flatMap(request.inOrder(name), ([checked]) =>
      inChildScope(
        (scope) =>
          candidacy.enter(kv, lockQueue.queueOf(checked, options?.value), asLeadership({ ttl: options?.ttl }), scope),
        Exit.isSuccess
      )))

/**
 * Runs a function of the leadership while leading.
 *
 * **Details**
 *
 * As `DistLock.use` does for a lock: it waits for its turn, and the effect is interrupted when the leadership is lost.
 * Then its finalizers run, and the whole fails with `LockLost`. Every write of the effect is fenced: the store rejects
 * it once another candidate may lead. The leadership is given up after the effect's finalizers have run.
 *
 * **Gotchas**
 *
 * Effects on anything but the store cannot be fenced: give them the `token`, so that they can reject one smaller than
 * they have seen.
 *
 * @example
 * ```ts
 * import { Election, Kv } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Election.use("billing", (leadership) => Kv.put("last-run", `token ${leadership.token > 0n}`), {
 *     value: "worker a"
 *   })
 *   yield* Kv.get("last-run") // => Option.some("token true")
 * })
 * ```
 *
 * @since 0.1.0
 */
export const use = <
  A,
  E,
  R,
  Timeout extends Duration.Input | undefined = undefined,
  Hold extends Duration.Input | undefined = undefined,
  Check extends Health | undefined = undefined
>(
  name: string,
  f: (leadership: Leadership) => Effect.Effect<A, E, R>,
  options?: Options<Timeout, Hold, Check>
): Effect.Effect<A, E | Failure<Timeout, Hold, Check>, R | Kv> =>
  Effect.flatMap(Kv, (kv) =>
    Effect.flatMap(request.inOrder(name), ([checked]) =>
      queues.use(
        kv,
        [lockQueue.queueOf(checked, options?.value)],
        (lock) => f(leadership.of(heldLock.single(lock))),
        asLeadership<Options>(options),
        healthOf(options?.health)
      ))) as Effect.Effect<A, E | Failure<Timeout, Hold, Check>, R | Kv> // as in `DistLock.use`

const healthOf = (check: Health | undefined): queues.Limit<UnhealthyLeader> | undefined =>
  check && ((lock) => health.untilUnhealthy(lock, check))

/**
 * Keeps one run of a service alive among all instances that call this.
 *
 * **Details**
 *
 * It campaigns, runs the function of the leadership as {@link use} does, and campaigns again by the schedule:
 * after the run ended or failed, after the leadership was lost, and after an outage of the store. Each campaign begins at
 * the end of the queue, so other instances get their turn. A run that failed is logged as a warning, an outage as one.
 *
 * It fails only if another attempt cannot help: with `Closed`, `InvalidRequest`, `PermissionDenied`, or with
 * `RequestTooLarge` because of its value.
 *
 * @example
 * ```ts
 * import { Election, Kv } from "@effect-kv/core"
 * import { Effect, Schedule } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const run = Kv.modify("runs", (n) => `${Number(n._tag === "Some" ? n.value : 0) + 1}`)
 *   yield* Election.singleton("billing", () => run, { schedule: Schedule.recurs(2) })
 *   yield* Kv.get("runs") // => Option.some("3")
 * })
 * ```
 *
 * @since 0.1.0
 */
export const singleton = <A, E, R, R2 = never>(
  name: string,
  f: (leadership: Leadership) => Effect.Effect<A, E, R>,
  options?: SingletonOptions<A, E, R2>
): Effect.Effect<void, KvError.KvError, R | R2 | Kv> =>
  Effect.suspend(() => {
    const warn = warnOnceOf(name)
    const turn = use(
      name,
      // The run's own failure is kept apart from those of the election.
      (leading) => Effect.exit(Effect.suspend(() => f(leading))),
      options as Omit<SingletonOptions, "schedule"> | undefined
    ).pipe(
      Effect.matchCauseEffect({
        onSuccess: (exit) => Effect.as(warn(exit), exit),
        onFailure: (cause): Effect.Effect<Exit.Exit<A, E | Failure>, KvError.KvError> => {
          const failure = Option.getOrUndefined(Cause.findErrorOption(cause))
          if (KvError.isKvError(failure) && isFinal(failure)) return Effect.fail(failure)
          const exit = Exit.failCause(cause)
          return Effect.as(warn(exit, failure), exit)
        }
      })
    )
    return Effect.asVoid(Effect.repeat(turn, options?.schedule ?? defaultSchedule))
  })

/** Other candidates get their turn in any case. The pause keeps a run that fails at once from keeping the store busy. */
const defaultSchedule = Schedule.jittered(Schedule.spaced("1 second"))

const isFinal = ({ reason: { _tag } }: KvError.KvError): boolean =>
  _tag === "Closed" || _tag === "InvalidRequest" || _tag === "PermissionDenied" || _tag === "RequestTooLarge"

/** Logs failed runs, and the first of several campaigns in a row that failed: an outage is one warning. */
const warnOnceOf = (election: string) => {
  let isOut = false
  return (exit: Exit.Exit<unknown, unknown>, failure?: Failure): Effect.Effect<void> => {
    const wasOut = isOut
    isOut = KvError.isKvError(failure)
    // The engine logs the loss of a lock when it notices it.
    if (Exit.isSuccess(exit) || failure?._tag === "LockLost" || isOut && wasOut) return Effect.void
    return Effect.annotateLogs(
      KvError.isKvError(failure)
        ? Effect.logWarning("effect-kv: a campaign failed, and is repeated until it succeeds", failure.message)
        : Effect.logWarning("effect-kv: a singleton's run failed, and it will campaign again", exit.cause),
      { election }
    )
  }
}

/**
 * The leader now, then each change: another leader, another value, or `none` when no candidate is left.
 *
 * **Details**
 *
 * Every leader and every value is delivered once, in order, also those that had ended when the stream was read. The
 * stream survives reconnects and restarts of the store, and waits for it if it cannot be reached at first. If the history it missed was compacted, it continues with the
 * leader of then. It fails with `Closed` when the client is closed, and with `PermissionDenied`.
 *
 * **Gotchas**
 *
 * Each observer receives an event for each candidate that comes or goes, and keeps the candidates in memory.
 *
 * @example
 * ```ts
 * import { Election } from "@effect-kv/core"
 * import { Effect, Option, Stream } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Election.campaign("billing", { value: "worker a" })
 *   const leaders = yield* Election.observe("billing").pipe(Stream.take(1), Stream.runCollect)
 *   leaders.map(Option.map(({ value }) => value)) // => [Option.some("worker a")]
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const observe = (name: string): Stream.Stream<Option.Option<Candidate>, KvError.KvError, Kv> =>
  Stream.unwrap(Effect.gen(function*() {
    const kv = yield* Kv
    const [checked] = yield* request.inOrder(name)
    return candidatesOf.leaders(kv, checked)
  }))

/**
 * The leader at this moment; `none` if there is no candidate.
 *
 * @example
 * ```ts
 * import { Election } from "@effect-kv/core"
 * import { Effect, Option } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Election.leader("billing") // => Option.none()
 *   yield* Election.campaign("billing", { value: "worker a" })
 *   const leader = yield* Election.leader("billing")
 *   Option.map(leader, ({ value }) => value) // => Option.some("worker a")
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const leader = Effect.fnUntraced(function*(
  name: string
): Effect.fn.Return<Option.Option<Candidate>, KvError.KvError, Kv> {
  const kv = yield* Kv
  const [checked] = yield* request.inOrder(name)
  const entry = yield* contenders.oldest(internals.of(kv).unfenced, lockQueue.prefixOf(checked))
  return Option.map(Option.fromUndefinedOr(entry), candidatesOf.of)
})

/**
 * The candidates in the order in which they will lead: the leader first.
 *
 * @example
 * ```ts
 * import { Election } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Election.campaign("billing", { value: "worker a" })
 *   const candidates = yield* Election.candidates("billing")
 *   candidates.map(({ value }) => value) // => ["worker a"]
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const candidates = Effect.fnUntraced(function*(
  name: string
): Effect.fn.Return<ReadonlyArray<Candidate>, KvError.KvError, Kv> {
  const kv = yield* Kv
  const [checked] = yield* request.inOrder(name)
  return (yield* contenders.all(internals.of(kv).unfenced, lockQueue.prefixOf(checked))).map(candidatesOf.of)
})

/** The options of the lock: its description is the candidate's value. */
const lockOptions = <Timeout extends Duration.Input | undefined, Hold extends Duration.Input | undefined>(
  options: Options<Timeout, Hold> | undefined
): DistLock.Options<Timeout, Hold> | undefined => asLeadership({ ...options, description: options?.value })
