/**
 * Distributed read-write locks: any number of readers or one writer across all processes, first come, first served.
 *
 * `withReadLock(name)(effect)` and `withWriteLock(name)(effect)` are what most programs need. They hold the lock while the
 * effect runs, interrupt the effect when the lock is lost, and fence its writes: the store rejects them once the lock is
 * not held any more, those of a reader too. A reader that comes after a waiting writer waits for it, so writers do not
 * starve.
 *
 * Go's `recipe.RWMutex` of the same name excludes these locks, and vice versa. All keys directly under `NAME/read/` and
 * `NAME/write/` are holders and waiters: do not put data there.
 */
import * as Array from "effect/Array"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import { NodeInspectSymbol } from "effect/Inspectable"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as internals from "../internal/kv/internals.ts"
import * as heldLock from "../internal/queue/heldLock.ts"
import type { AcquireOptions, Lock, MultiLock } from "../internal/queue/model.ts"
import * as request from "../internal/queue/request.ts"
import * as queues from "../internal/queue/use.ts"
import * as rwQueue from "../internal/rwLock/rwQueue.ts"
import { Kv } from "../service/Kv.ts"
import type { Entry } from "../values/Entry.ts"
import type * as KvError from "../values/KvError.ts"
import type { LockLost, LockTimeout } from "../values/LockError.ts"
import type { LockFailure, Options } from "./DistLock.ts"

/**
 * The locks that {@link withLocks} acquires.
 *
 * @since 0.1.0
 */
export interface LockSet {
  /** The names to lock for reading. */
  readonly read?: ReadonlyArray<string> | undefined
  /** The names to lock for writing. One that is also in `read` is locked once, for writing. */
  readonly write?: ReadonlyArray<string> | undefined
}

/**
 * A holder of a read-write lock, or a waiter for it.
 *
 * @since 0.1.0
 */
export interface Contender {
  /** Whether it reads or writes. */
  readonly mode: "Read" | "Write"
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
 * The two forms of a function that runs an effect under locks, which `Locks` names: the effect first, or piped.
 *
 * @since 0.1.0
 */
export interface WithLocks<in Locks> {
  <
    A,
    E,
    R,
    Timeout extends Duration.Input | undefined = undefined,
    Hold extends Duration.Input | undefined = undefined
  >(
    effect: Effect.Effect<A, E, R>,
    locks: Locks,
    options?: Options<Timeout, Hold>
  ): Effect.Effect<A, E | LockFailure<Timeout, Hold>, R | Kv>
  // Last, because TypeScript reports the errors of the last overload: they name the option that is wrong.
  <Timeout extends Duration.Input | undefined = undefined, Hold extends Duration.Input | undefined = undefined>(
    locks: Locks,
    options?: Options<Timeout, Hold>
  ): <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | LockFailure<Timeout, Hold>, R | Kv>
}

const withLocksOf = <Locks>(lockSetOf: (locks: Locks) => LockSet): WithLocks<Locks> =>
  dual(
    (args) => Effect.isEffect(args[0]),
    <A, E, R, Timeout extends Duration.Input | undefined, Hold extends Duration.Input | undefined>(
      effect: Effect.Effect<A, E, R>,
      locks: Locks,
      options?: Options<Timeout, Hold>
    ): Effect.Effect<A, E | LockFailure<Timeout, Hold>, R | Kv> => use(lockSetOf(locks), (_lock) => effect, options)
  )

/**
 * Runs the effect while holding the lock for reading. Other readers may hold it too, and no writer does.
 *
 * **Details**
 *
 * As `DistLock.withDistLock`: it waits for its turn, behind the writers that came before it. When the lock is lost, the
 * effect is interrupted and the whole fails with `LockLost`. The effect's writes are fenced.
 *
 * **Gotchas**
 *
 * Not reentrant, and a reader cannot become a writer: a fiber that requests a lock whose body it runs fails with
 * `InvalidRequest`.
 *
 * @example
 * ```ts
 * import { DistRwLock, Kv } from "@effect-kv/core"
 * import { Effect, Option } from "effect"
 *
 * const load = Effect.all([Kv.get("index/a"), Kv.get("index/b")]).pipe(DistRwLock.withReadLock("index"))
 * const swap = Effect.andThen(Kv.put("index/a", "2"), Kv.put("index/b", "2")).pipe(DistRwLock.withWriteLock("index"))
 *
 * const program = Effect.gen(function*() {
 *   yield* swap
 *   yield* load // => [Option.some("2"), Option.some("2")]
 * })
 * ```
 *
 * @since 0.1.0
 */
export const withReadLock: WithLocks<string> = withLocksOf((name) => ({ read: [name] }))

/**
 * Runs the effect while holding the lock for writing. There is no other holder meanwhile, neither reader nor writer.
 *
 * **Details**
 *
 * As {@link withReadLock}, but it waits for all contenders that came before it.
 *
 * @example
 * ```ts
 * import { DistRwLock, Kv } from "@effect-kv/core"
 * import { Effect, Option } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("index", "2").pipe(DistRwLock.withWriteLock("index-lock", { acquireTimeout: "10 seconds" }))
 *   yield* Kv.get("index") // => Option.some("2")
 * })
 * ```
 *
 * @since 0.1.0
 */
export const withWriteLock: WithLocks<string> = withLocksOf((name) => ({ write: [name] }))

/**
 * Runs the effect while holding several locks, each for reading or for writing: all or none.
 *
 * **Details**
 *
 * The order of the names does not matter: every client acquires them in the same order, so two clients cannot deadlock.
 * The loss of one of them interrupts the effect.
 *
 * @example
 * ```ts
 * import { DistRwLock, Kv } from "@effect-kv/core"
 * import { Effect, Option } from "effect"
 *
 * const copy = Effect.flatMap(Kv.get("a"), (value) => Kv.put("b", Option.getOrElse(value, () => "")))
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("a", "1")
 *   yield* copy.pipe(DistRwLock.withLocks({ read: ["a-lock"], write: ["b-lock"] }))
 *   yield* Kv.get("b") // => Option.some("1")
 * })
 * ```
 *
 * @since 0.1.0
 */
export const withLocks: WithLocks<LockSet> = withLocksOf((locks) => locks)

/**
 * Runs a function of the locks while holding them, as {@link withLocks} runs an effect.
 *
 * **When to use**
 *
 * If the work needs a `token`, for a resource outside the store, or `isHeld` and `heldFor`.
 *
 * @example
 * ```ts
 * import { DistRwLock, Kv } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* DistRwLock.use({ write: ["index"] }, ({ parts }) => Kv.put("index/by", `token ${parts[0].token > 0n}`))
 *   yield* Kv.get("index/by") // => Option.some("token true")
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
  Hold extends Duration.Input | undefined = undefined
>(
  locks: LockSet,
  f: (lock: MultiLock) => Effect.Effect<A, E, R>,
  options?: Options<Timeout, Hold>
): Effect.Effect<A, E | LockFailure<Timeout, Hold>, R | Kv> =>
  Effect.flatMap(Kv, (kv) =>
    Effect.flatMap(
      queuesOf(locks, options),
      (ordered) => queues.use(kv, ordered, f, options)
    )) as Effect.Effect<A, E | LockFailure<Timeout, Hold>, R | Kv> // the failures of limits that are not given cannot happen

/**
 * Acquires the lock for reading, after waiting for its turn, and holds it until the scope closes.
 *
 * **Gotchas**
 *
 * Writes are not fenced, and nothing is interrupted when the lock is lost. Run the work with `DistLock.fenced`.
 *
 * @example
 * ```ts
 * import { DistLock, DistRwLock, Kv } from "@effect-kv/core"
 * import { Effect, Option } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const lock = yield* DistRwLock.acquireRead("index")
 *   yield* Kv.put("seen", "1").pipe(DistLock.fenced(lock))
 *   yield* Kv.get("seen") // => Option.some("1")
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const acquireRead = (
  name: string,
  options?: AcquireOptions
): Effect.Effect<Lock, KvError.KvError | LockTimeout | LockLost, Kv | Scope.Scope> =>
  Effect.map(acquire({ read: [name] }, options), heldLock.single)

/**
 * Acquires the lock for writing, after waiting for its turn, and holds it until the scope closes.
 *
 * **Gotchas**
 *
 * Writes are not fenced, and nothing is interrupted when the lock is lost. Run the work with `DistLock.fenced`.
 *
 * @example
 * ```ts
 * import { DistLock, DistRwLock, Kv } from "@effect-kv/core"
 * import { Effect, Option } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const lock = yield* DistRwLock.acquireWrite("index")
 *   yield* Kv.put("index/a", "1").pipe(DistLock.fenced(lock))
 *   yield* Kv.get("index/a") // => Option.some("1")
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const acquireWrite = (
  name: string,
  options?: AcquireOptions
): Effect.Effect<Lock, KvError.KvError | LockTimeout | LockLost, Kv | Scope.Scope> =>
  Effect.map(acquire({ write: [name] }, options), heldLock.single)

const acquire = (locks: LockSet, options: AcquireOptions | undefined) =>
  Effect.flatMap(
    Kv,
    (kv) => Effect.flatMap(queuesOf(locks, options), (ordered) => queues.acquire(kv, ordered, options))
  )

/** Each name once, in the order of every client. */
const queuesOf = (
  { read = [], write = [] }: LockSet,
  options: AcquireOptions | undefined
): Effect.Effect<queues.Queues<never>, KvError.KvError> => {
  const names = [...read, ...write]
  return Array.isReadonlyArrayNonEmpty(names)
    ? Effect.map(
      request.inOrder(names),
      Array.map((name) => rwQueue.queueOf(name, write.includes(name) ? "Write" : "Read", options?.description))
    )
    : request.invalid("name at least one lock")
}

/**
 * The holders of the lock and the waiters for it, in the order in which they came.
 *
 * @example
 * ```ts
 * import { DistRwLock } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* DistRwLock.acquireRead("index", { description: "worker a" })
 *   const contenders = yield* DistRwLock.contenders("index")
 *   contenders.map(({ description, mode }) => [mode, description]) // => [["Read", "worker a"]]
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const contenders = Effect.fnUntraced(function*(
  name: string
): Effect.fn.Return<ReadonlyArray<Contender>, KvError.KvError, Kv> {
  const kv = yield* Kv
  const [checked] = yield* request.inOrder(name)
  const all = yield* rwQueue.all(internals.of(kv).unfenced, checked)
  return all.map(({ entry, mode }) => new ContenderOf(mode, entry))
})

/** A class because of `toJSON` and `inspect`: JSON has no bigints. */
class ContenderOf implements Contender {
  readonly mode: "Read" | "Write"
  readonly key: string
  readonly token: bigint
  readonly lease: Option.Option<bigint>
  readonly description: string

  constructor(mode: "Read" | "Write", entry: Entry) {
    this.mode = mode
    this.key = entry.key
    this.token = entry.createRevision
    this.lease = entry.lease
    this.description = entry.lossyText
  }

  toJSON(): unknown {
    return {
      mode: this.mode,
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
