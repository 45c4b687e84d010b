/**
 * Distributed locks: exclusive across processes and between the fibers of one process, first come, first served.
 *
 * `withDistLock(name)(effect)` is what most programs need. It holds the lock while the effect runs, interrupts the
 * effect when the lock is lost, and fences its writes: the store rejects them once the lock is not held any more. `use`
 * gives the lock to a function. Go's `concurrency.Mutex` and `etcdctl lock` of the same name exclude these locks, and
 * vice versa.
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Array from "effect/Array"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { dual } from "effect/Function"
import { NodeInspectSymbol } from "effect/Inspectable"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as internals from "../internal/kv/internals.ts"
import * as kvService from "../internal/kv/makeKv.ts"
import * as lockQueue from "../internal/lock/lockQueue.ts"
import * as contendersOf from "../internal/queue/contenders.ts"
import * as heldLock from "../internal/queue/heldLock.ts"
import * as lockFence from "../internal/queue/lockFence.ts"
import type { AcquireOptions, Lock, LockNames, LockOf, LockPart, MultiLock } from "../internal/queue/model.ts"
import * as request from "../internal/queue/request.ts"
import type { Queue } from "../internal/queue/rule.ts"
import * as underLock from "../internal/queue/underLock.ts"
import * as queues from "../internal/queue/use.ts"
import * as Fence from "../service/Fence.ts"
import { Kv } from "../service/Kv.ts"
import type { Entry } from "../values/Entry.ts"
import * as KvError from "../values/KvError.ts"
import type { LockHoldExceeded, LockLost, LockTimeout } from "../values/LockError.ts"

export type { AcquireOptions, Lock, LockNames, LockOf, LockPart, MultiLock }

/**
 * Options of {@link withDistLock}.
 *
 * **Details**
 *
 * `Timeout` and `Hold` are the types of `acquireTimeout` and `maxHold`. If an option is not given, its type is
 * `undefined`, and the error type does not contain its failure.
 *
 * @since 0.1.0
 */
export interface Options<
  out Timeout extends Duration.Input | undefined = Duration.Input | undefined,
  out Hold extends Duration.Input | undefined = Duration.Input | undefined
> extends Omit<AcquireOptions, "acquireTimeout"> {
  /**
   * How long to wait for the lock. Then fails with `LockTimeout` and leaves nothing in the store. Default:
   * indefinitely.
   */
  readonly acquireTimeout?: Timeout | undefined
  /**
   * How long the lock may be held, counted from when it was acquired. Then the effect is interrupted and fails with
   * `LockHoldExceeded`, even if the lease is alive. The lock is released when the effect's finalizers have run.
   * Default: indefinitely.
   */
  readonly maxHold?: Hold | undefined
  /** Whether the effect's writes are conditional on the lock: see {@link withDistLock}. Default: true. */
  readonly fenced?: boolean | undefined
}

/**
 * The holder of a lock, or a waiter for it.
 *
 * @since 0.1.0
 */
export interface Contender {
  /** The key with which it holds the lock or waits for it. */
  readonly key: string
  /** The fencing token: the revision at which it entered the queue. */
  readonly token: bigint
  /** Its lease; `none` for a key without a lease, which was not put by a lock and does not expire. */
  readonly lease: Option.Option<bigint>
  /** The `description` option of its acquisition. */
  readonly description: string
}

/**
 * Acquires the lock, after waiting for its turn, and holds it until the scope closes.
 *
 * **Details**
 *
 * Several names are acquired as one `MultiLock`, all or none. Their order does not matter: every client acquires them
 * in the same order, so two clients cannot deadlock.
 *
 * **Gotchas**
 *
 * Writes are not fenced, and nothing is interrupted when the lock is lost. Run the work with {@link fenced}, which does
 * both, or use {@link withDistLock}.
 *
 * @example
 * ```ts
 * import { DistLock } from "@effect-kv/core"
 * import { Effect, Option } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const lock = yield* DistLock.acquire("nightly", { acquireTimeout: "10 seconds" })
 *   lock.name // => "nightly"
 *   yield* lock.isHeld // => true
 *   const holder = yield* DistLock.holder("nightly")
 *   Option.map(holder, ({ token }) => token === lock.token) // => Option.some(true)
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const acquire = Effect.fnUntraced(function*<const Names extends LockNames>(
  names: Names,
  options?: AcquireOptions
): Effect.fn.Return<LockOf<Names>, KvError.KvError | LockTimeout | LockLost, Kv | Scope.Scope> {
  const kv = yield* Kv
  const lock = yield* queues.acquire(kv, yield* queuesOf(names, options), options)
  return lock as MultiLock as LockOf<Names> // one name gives a `HeldSingleLock`
})

/** The queues of the locks, each once, in the same order for every client. */
const queuesOf = (
  names: LockNames,
  options: AcquireOptions | undefined
): Exit.Exit<NonEmptyReadonlyArray<Queue>, KvError.KvError> =>
  Exit.map(request.inOrder(names), Array.map((name) => lockQueue.queueOf(name, options?.description)))

/**
 * Acquires the lock if no client holds it or waits for it, and holds it until the scope closes. It never waits for
 * another client. With several names, it acquires all of them or none.
 *
 * **Details**
 *
 * One transaction decides. A failed attempt leaves nothing and delays no other client.
 *
 * **Gotchas**
 *
 * Writes are not fenced, and nothing is interrupted when the lock is lost. Run the work with {@link fenced}.
 *
 * @example
 * ```ts
 * import { DistLock } from "@effect-kv/core"
 * import { Effect, Option } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const first = yield* DistLock.tryAcquire("nightly")
 *   const second = yield* DistLock.tryAcquire("nightly")
 *   const acquired = [first, second].map(Option.isSome) // => [true, false]
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const tryAcquire = Effect.fnUntraced(function*<const Names extends LockNames>(
  names: Names,
  options?: Omit<AcquireOptions, "acquireTimeout">
): Effect.fn.Return<Option.Option<LockOf<Names>>, KvError.KvError | LockLost, Kv | Scope.Scope> {
  const kv = yield* Kv
  const ordered = yield* queuesOf(names, options)
  const lock = yield* queues.tryAcquire(kv, ordered, lockQueue.enterIfFree(options?.description), options)
  return lock as Option.Option<MultiLock> as Option.Option<LockOf<Names>> // one name gives a `HeldSingleLock`
})

/**
 * The failures that acquiring and holding a lock add to an effect's own: `LockTimeout` only with `acquireTimeout`, and
 * `LockHoldExceeded` only with `maxHold`.
 *
 * All of them have `isRetryable` and `outcome`. `LockLost` has the outcome `Unknown` if the effect had begun.
 *
 * @since 0.1.0
 */
export type LockFailure<
  Timeout extends Duration.Input | undefined = Duration.Input | undefined,
  Hold extends Duration.Input | undefined = Duration.Input | undefined
> =
  | KvError.KvError
  | LockLost
  | ([Timeout] extends [undefined] ? never : LockTimeout)
  | ([Hold] extends [undefined] ? never : LockHoldExceeded)

/**
 * Runs the effect while holding the lock, or all of several locks.
 *
 * **Details**
 *
 * Waits for its turn, indefinitely unless `acquireTimeout` is given. When the lock is lost, the effect is interrupted,
 * its finalizers run, and the whole fails with `LockLost`. It also fails with `LockLost` if the lock is found lost when
 * the effect has ended, even if the effect succeeded. The effect's own failures follow in the cause.
 *
 * The effect's writes are fenced: each is a transaction on the condition that the lock is held, and fails with the
 * reason `LockLost` if it is not. This applies to every `Kv` of the client that acquired the lock, even one that a
 * service captured earlier, and to all fibers that the effect starts, as long as they run. See `Fence`.
 *
 * The failure of a release never replaces the effect's own.
 *
 * **Gotchas**
 *
 * Not reentrant: a fiber that requests a lock whose body it runs fails with `InvalidRequest`. A child fiber waits.
 *
 * The fence does not reach fibers that were started before, other runtimes or other clients: pass them `Fence.Current`,
 * or a `Kv` made by {@link fence}. Nor does it reach other systems: call {@link use} and pass them the token, so that
 * they can reject a token smaller than one they have seen.
 *
 * @example
 * ```ts
 * import { DistLock, Kv } from "@effect-kv/core"
 * import { Effect, Option } from "effect"
 *
 * const increment = Effect.gen(function*() {
 *   const count = Number(Option.getOrElse(yield* Kv.get("count"), () => "0"))
 *   yield* Kv.put("count", `${count + 1}`)
 * }).pipe(DistLock.withDistLock("counter"))
 *
 * const program = Effect.gen(function*() {
 *   yield* Effect.all([increment, increment, increment], { concurrency: "unbounded" })
 *   yield* Kv.get("count") // => Option.some("3")
 * })
 * ```
 *
 * @since 0.1.0
 */
export const withDistLock: {
  <
    A,
    E,
    R,
    Timeout extends Duration.Input | undefined = undefined,
    Hold extends Duration.Input | undefined = undefined
  >(
    effect: Effect.Effect<A, E, R>,
    names: LockNames,
    options?: Options<Timeout, Hold>
  ): Effect.Effect<A, E | LockFailure<Timeout, Hold>, R | Kv>
  // Last, because TypeScript reports the errors of the last overload: they name the option that is wrong.
  <Timeout extends Duration.Input | undefined = undefined, Hold extends Duration.Input | undefined = undefined>(
    names: LockNames,
    options?: Options<Timeout, Hold>
  ): <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | LockFailure<Timeout, Hold>, R | Kv>
} = dual(
  (args) => Effect.isEffect(args[0]),
  <A, E, R, Timeout extends Duration.Input | undefined, Hold extends Duration.Input | undefined>(
    effect: Effect.Effect<A, E, R>,
    names: LockNames,
    options?: Options<Timeout, Hold>
  ): Effect.Effect<A, E | LockFailure<Timeout, Hold>, R | Kv> => use(names, (_lock) => effect, options)
)

/**
 * Runs a function of the lock while holding it, as {@link withDistLock} runs an effect.
 *
 * **When to use**
 *
 * If the work needs the lock itself: its `token`, for a resource outside the store, or `isHeld` and `heldFor`.
 *
 * @example
 * ```ts
 * import { DistLock, Kv } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* DistLock.use("nightly", (lock) => Kv.put("report/by", `token ${lock.token > 0n}`))
 *   yield* Kv.get("report/by") // => Option.some("token true")
 * })
 * ```
 *
 * @since 0.1.0
 */
export const use = <
  const Names extends LockNames,
  A,
  E,
  R,
  Timeout extends Duration.Input | undefined = undefined,
  Hold extends Duration.Input | undefined = undefined
>(
  names: Names,
  f: (lock: LockOf<Names>) => Effect.Effect<A, E, R>,
  options?: Options<Timeout, Hold>
): Effect.Effect<A, E | LockFailure<Timeout, Hold>, R | Kv> =>
  Effect.contextWith((context: Context.Context<Kv>) => {
    const kv = Context.get(context, Kv)
    const ordered = queuesOf(names, options)
    // One name gives a `HeldSingleLock`.
    return Exit.isFailure(ordered)
      ? Effect.failCause(ordered.cause)
      : queues.use(kv, ordered.value, (lock) => f(lock as MultiLock as LockOf<Names>), options)
  }) as Effect.Effect<A, E | LockFailure<Timeout, Hold>, R | Kv> // the failures of limits that are not given cannot happen

/**
 * Runs the effect under a lock that {@link acquire} or {@link tryAcquire} acquired, as {@link withDistLock} does:
 * fenced, and interrupted when the lock is lost.
 *
 * **Details**
 *
 * If the lock is known to be lost, the effect does not begin. The lock stays held when the effect ends.
 *
 * @example
 * ```ts
 * import { DistLock, Kv } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const lock = yield* DistLock.acquire("nightly")
 *   yield* Kv.put("report", "done").pipe(DistLock.fenced(lock))
 *   yield* Kv.get("report") // => Option.some("done")
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const fenced: {
  (lock: MultiLock): <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | KvError.KvError | LockLost, R>
  <A, E, R>(effect: Effect.Effect<A, E, R>, lock: MultiLock): Effect.Effect<A, E | KvError.KvError | LockLost, R>
} = dual(
  2,
  <A, E, R>(effect: Effect.Effect<A, E, R>, lock: MultiLock): Effect.Effect<A, E | KvError.KvError | LockLost, R> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.gen(function*() {
        const held = heldLock.from(lock)
        if (held === undefined) {
          const message = "only a lock that acquire or tryAcquire returned can fence an effect"
          return yield* KvError.fail(new KvError.InvalidRequest({ message }))
        }
        yield* request.roomForFence(held.kv, held.parts.length)
        // The effect has not begun, so the outcome of this loss stays `NotApplied`.
        if (!held.isHeldUnsafe()) return yield* Effect.fail(yield* held.lose(notHeldAtTheStart))
        return yield* underLock.run(held, Fence.provide(effect, lockFence.of(held)), {
          limit: Effect.never,
          restore,
          end: () => Effect.void
        })
      })
    )
)

const notHeldAtTheStart = "it was not held any more when its work was to begin"

/**
 * A `Kv` whose every write is conditional on the lock being held, whichever fiber makes it. A write that is rejected
 * changes nothing and fails with the reason `LockLost`.
 *
 * **When to use**
 *
 * For what the fence of {@link withDistLock} does not reach: fibers that were started before, other runtimes, other
 * clients.
 *
 * **Gotchas**
 *
 * If the `Kv` belongs to another client than the lock, the lock's key is interpreted as a key of that `Kv`. It must be
 * the same namespace of the same store, or every write is rejected.
 *
 * @example
 * ```ts
 * import { DistLock, Kv } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const kv = yield* Kv.Kv
 *   const fenced = yield* DistLock.use("nightly", (lock) => Effect.succeed(DistLock.fence(kv, lock)))
 *   // The lock was released.
 *   const error = yield* Effect.flip(fenced.put("report", "late"))
 *   error.reason._tag // => "LockLost"
 * })
 * ```
 *
 * @since 0.1.0
 */
export const fence: {
  (lock: MultiLock): (kv: Kv) => Kv
  (kv: Kv, lock: MultiLock): Kv
} = dual(2, (kv: Kv, lock: MultiLock): Kv => kvService.withFence(kv, lockFence.inKv(kv, lock)))

/**
 * The holder of the lock; `none` if no client holds it.
 *
 * @example
 * ```ts
 * import { DistLock } from "@effect-kv/core"
 * import { Effect, Option } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* DistLock.acquire("nightly", { description: "worker a" })
 *   const holder = yield* DistLock.holder("nightly")
 *   Option.map(holder, ({ description }) => description) // => Option.some("worker a")
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const holder = (name: string): Effect.Effect<Option.Option<Contender>, KvError.KvError, Kv> =>
  Effect.map(contenders(name), (all) => Option.fromUndefinedOr(all[0]))

/**
 * The waiters for the lock, in the order in which they will acquire it.
 *
 * @example
 * ```ts
 * import { DistLock } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* DistLock.acquire("nightly")
 *   const waiters = yield* DistLock.waiters("nightly")
 *   waiters.length // => 0
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const waiters = (name: string): Effect.Effect<ReadonlyArray<Contender>, KvError.KvError, Kv> =>
  Effect.map(contenders(name), (all) => all.slice(1))

const contenders = Effect.fnUntraced(function*(name: string) {
  const kv = yield* Kv
  const [checked] = yield* request.inOrder(name)
  return (yield* contendersOf.all(internals.of(kv).unfenced, lockQueue.prefixOf(checked))).map(describe)
})

const describe = (entry: Entry): Contender => new ContenderOf(entry)

/** A class because of `toJSON` and `inspect`: JSON has no bigints. */
class ContenderOf implements Contender {
  readonly key: string
  readonly token: bigint
  readonly lease: Option.Option<bigint>
  readonly description: string

  constructor(entry: Entry) {
    this.key = entry.key
    this.token = entry.createRevision
    this.lease = entry.lease
    this.description = entry.lossyText
  }

  toJSON(): unknown {
    return {
      key: this.key,
      token: `${this.token}`,
      lease: Option.getOrUndefined(this.lease)?.toString(16),
      description: this.description
    }
  }

  [NodeInspectSymbol](): unknown {
    return this.toJSON()
  }
}
