/**
 * Effect's `PersistedCache` with single flight across processes: while one client looks up a missing key, the others wait
 * for its result.
 *
 * Effect's own shares lookups within a process. After a deployment, or when a popular entry expires, each process of a
 * fleet looks it up once. Here one does, under a lock.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as DistLock from "@effect-kv/core/DistLock"
import * as Fence from "@effect-kv/core/Fence"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import type * as LockError from "@effect-kv/core/LockError"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Persistable from "effect/persistence/Persistable"
import * as PersistedCache from "effect/persistence/PersistedCache"
import * as Persistence from "effect/persistence/Persistence"
import * as PrimaryKey from "effect/PrimaryKey"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as checked from "./internal/checked.ts"
import * as segment from "./internal/segment.ts"

/**
 * Options of a cache: those of Effect's `PersistedCache.make`, and those of its locks.
 *
 * @since 0.1.0
 */
export interface Options<K extends Persistable.Any, ServiceMode extends "lookup" | "construction" = never> {
  /** The store of `Persistence` that has the results, and part of the names of the locks. */
  readonly storeId: string
  /** How long a result is kept in the store. Zero does not keep it: a rule for failures, for example. */
  readonly timeToLive: Persistable.TimeToLiveFn<K>
  /** How many results are kept in memory. Default: 1024. */
  readonly inMemoryCapacity?: number | undefined
  /**
   * How long a result is kept in memory after this client has got it, by its lookup or from the store. Default:
   * `timeToLive`, and at most 10 seconds. Zero keeps none: then no result is returned after it has expired in the store.
   */
  readonly inMemoryTTL?: Persistable.TimeToLiveFn<K> | undefined
  /** When the services of the lookup are required: see `PersistedCache.make`. Default: when the cache is made. */
  readonly requireServicesAt?: ServiceMode | undefined
  /** The prefix of the locks' names. A slash is added if it does not end with one. Default: `"persisted-cache/"`. */
  readonly lockPrefix?: string | undefined
  /** How long another client's lookup blocks a key after that client crashed. Default: 10 seconds. */
  readonly lockTtl?: Duration.Input | undefined
  /**
   * How long to wait for lookups of other clients. Then `get` fails with `PersistenceError`. Zero does not wait.
   * Default: 30 seconds.
   *
   * The client's own lookup does not count.
   */
  readonly waitTimeout?: Duration.Input | undefined
}

type Failure = Persistence.PersistenceError | Schema.SchemaError

/**
 * Makes a cache whose keys are looked up by one client at a time. Fails with `InvalidRequest` if the locks' prefix is no
 * part of a key, or if `lockTtl` or `waitTimeout` is no time that can be used.
 *
 * **Details**
 *
 * - `get` returns the result in memory, else that in the store, else it looks it up. If another client is looking it up, `get`
 *   waits until that client has written its result or released the lock.
 * - A result is written under the lock. If the lookup fails and `timeToLive` says zero for its exit, nothing is written and
 *   the next client looks it up itself. An interrupted lookup is never written.
 * - If the client crashes during its lookup, its lock ends after `lockTtl`. If it loses the lock otherwise, its lookup is
 *   interrupted and it waits like the others. Its result is rejected by the lock's fence if `Persistence` is on the
 *   same `Kv`.
 * - A failure of the store or of a lock is a `PersistenceError`, and is not kept in memory.
 * - Callers of one client share a lookup, so it runs without their `Deadline`. `Effect.timeout` bounds the wait of one caller;
 *   the lookup ends with the last one.
 *
 * **Gotchas**
 *
 * A lookup that hangs blocks its key for the whole fleet: give it a timeout. One that gets its own key waits for itself.
 * The lookup's own writes are not fenced by the cache's lock.
 *
 * @example
 * ```ts
 * import { KvPersistedCache, KvPersistence } from "@effect-kv/persistence"
 * import { Effect, Schema } from "effect"
 * import { Persistable } from "effect/persistence"
 *
 * class UserName extends Persistable.Class<{ payload: { id: number } }>()("UserName", {
 *   primaryKey: ({ id }) => `${id}`,
 *   success: Schema.String
 * }) {}
 *
 * const program = Effect.gen(function*() {
 *   const names = yield* KvPersistedCache.make(({ id }: UserName) => Effect.succeed(`user ${id}`), {
 *     storeId: "names",
 *     timeToLive: () => "5 minutes"
 *   })
 *   yield* names.get(new UserName({ id: 1 })) // => "user 1"
 * }).pipe(Effect.scoped, Effect.provide(KvPersistence.layer()))
 * ```
 *
 * @since 0.1.0
 */
export const make: <
  K extends Persistable.Any,
  R = never,
  ServiceMode extends "lookup" | "construction" = never
>(
  lookup: (key: K) => Effect.Effect<Persistable.Success<K>, Persistable.Error<K>, R>,
  options: Options<K, ServiceMode>
) => Effect.Effect<
  PersistedCache.PersistedCache<K, "lookup" extends ServiceMode ? R : never>,
  KvError.KvError,
  ("lookup" extends ServiceMode ? never : R) | Persistence.Persistence | Kv.Kv | Scope.Scope
> = Effect.fnUntraced(function*<
  K extends Persistable.Any,
  R = never,
  ServiceMode extends "lookup" | "construction" = never
>(
  lookup: (key: K) => Effect.Effect<Persistable.Success<K>, Persistable.Error<K>, R>,
  options: Options<K, ServiceMode>
) {
  type Result = Exit.Exit<Persistable.Success<K>, Persistable.Error<K>>
  const kv = yield* Kv.Kv
  const persistence = yield* Persistence.Persistence
  const store = yield* persistence.make({
    storeId: options.storeId,
    // `Persistence` has one function for all kinds of keys; the store has those of one kind.
    timeToLive: options.timeToLive as (exit: Exit.Exit<unknown, unknown>, key: Persistable.Any) => Duration.Input
  })
  const locks = `${yield* checked.prefix(options.lockPrefix ?? "persisted-cache/")}${segment.of(options.storeId)}/`
  const nameOf = (key: K): string => locks + segment.of(PrimaryKey.value(key))
  const lockTtl = yield* checked.positive("lockTtl", options.lockTtl ?? "10 seconds")
  const waitMillis = Duration.toMillis(yield* checked.notNegative("waitTimeout", options.waitTimeout ?? "30 seconds"))

  // `PersistedCache` provides the services of the schemas to its lookup, but its type does not say so.
  const find = (key: K): Effect.Effect<Result | undefined, Persistence.PersistenceError> =>
    Effect.catchTag(store.get(key), "SchemaError", () => Effect.undefined) as Effect.Effect<
      Result | undefined,
      Persistence.PersistenceError
    >
  const save = (key: K, result: Result): Effect.Effect<void, Failure> =>
    store.set(key, result) as Effect.Effect<void, Failure>

  /** Looks the key up under the lock. */
  const lead = Effect.fnUntraced(function*(
    key: K,
    lock: DistLock.Lock
  ): Effect.fn.Return<Result, Failure | KvError.KvError | LockError.LockLost, R> {
    const fences = yield* Fence.Current
    const led = Effect.gen(function*() {
      const found = yield* find(key)
      if (found !== undefined) return found
      const result = yield* Effect.exit(
        Effect.provideService(Effect.suspend(() => lookup(key)), Fence.Current, fences)
      )
      if (Exit.isSuccess(result) || !Cause.hasInterrupts(result.cause)) yield* save(key, result)
      return result
    })
    // The result is for all callers, so it must not depend on a lock that this one happens to hold.
    return yield* Fence.unfenced(DistLock.fenced(led, lock))
  })

  /** Looks the key up if no client does; `none` if one does, or if the lock was lost. */
  const attempt = Effect.fnUntraced(function*(key: K, name: string) {
    const lock = yield* Effect.catchTag(
      DistLock.tryAcquire(name, { ttl: lockTtl }),
      "LockLost",
      () => Effect.succeedNone
    )
    if (Option.isNone(lock)) return Option.none<Result>()
    const exit = yield* Effect.exit(lead(key, lock.value))
    return Exit.isFailure(exit) && isLost(lock.value, exit.cause) ? Option.none<Result>() : Option.some(yield* exit)
  }, Effect.scoped)

  /** Waits until the client that looks the key up has ended. The result, if it wrote one. */
  const wait = Effect.fnUntraced(function*(key: K, name: string) {
    const { events } = yield* kv.subscribe(KeyRange.prefix(`${name}/`), { only: "Delete" })
    const before = yield* find(key)
    if (before !== undefined || Option.isNone(yield* DistLock.holder(name))) return before
    yield* Stream.runHead(events)
    return yield* find(key)
  }, Effect.scoped)

  const flight = Effect.fnUntraced(function*(key: K) {
    const name = nameOf(key)
    const startedAt = yield* monotonicMillis
    let leadMillis = 0
    while (true) {
      const [duration, led] = yield* Effect.timed(coordinated(key, attempt(key, name)))
      if (Option.isSome(led)) return yield* led.value
      leadMillis += Duration.toMillis(duration)
      const left = waitMillis - ((yield* monotonicMillis) - startedAt - leadMillis)
      const found = yield* Effect.timeoutOrElse(coordinated(key, wait(key, name)), {
        duration: Math.max(0, left),
        orElse: () => Effect.fail(waitedTooLong(key, waitMillis))
      })
      if (found !== undefined) return yield* found
    }
  })

  const inMemoryTTL: Persistable.TimeToLiveFn<K> = (exit, key) => {
    if (Option.exists(Exit.findErrorOption(exit), isStoreFailure)) return Duration.zero
    return options.inMemoryTTL === undefined
      ? Duration.min(Duration.seconds(10), Duration.fromInputUnsafe(options.timeToLive(exit, key)))
      : options.inMemoryTTL(exit, key)
  }

  return yield* PersistedCache.make<K, R, ServiceMode>(
    // `PersistedCache` fails with these errors itself, but its type allows a lookup only those of the key.
    (key) =>
      forAllCallers(Effect.provideService(flight(key), Kv.Kv, kv)) as Effect.Effect<
        Persistable.Success<K>,
        Persistable.Error<K>,
        R
      >,
    {
      storeId: options.storeId,
      timeToLive: options.timeToLive,
      inMemoryCapacity: options.inMemoryCapacity,
      inMemoryTTL,
      requireServicesAt: options.requireServicesAt
    }
  ).pipe(
    // The result is written under the lock, so the cache must not write it again.
    Effect.provideService(Persistence.Persistence, {
      make: () => Effect.succeed({ ...store, get: (key) => forAllCallers(store.get(key)), set: () => Effect.void })
    })
  )
})

/** The callers of one client share the work, so it must not inherit the deadline of the one that started it. */
const forAllCallers = <A, E, R>(work: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.provideService(work, Deadline.Deadline, undefined)

const monotonicMillis = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1_000_000)

/** Whether the lookup ended only because its lock was lost. */
const isLost = (lock: DistLock.Lock, cause: Cause.Cause<unknown>): boolean =>
  !lock.isHeldUnsafe() && !Cause.hasDies(cause)

const isStoreFailure = (error: unknown): boolean => error instanceof Persistence.PersistenceError

/** Lookups fail in their result. So every failure beside it is one of the coordination. */
const coordinated = <A, E extends { readonly message: string }, R>(
  key: Persistable.Any,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, Persistence.PersistenceError, R> =>
  Effect.mapError(
    effect,
    (error) =>
      error instanceof Persistence.PersistenceError ? error : new Persistence.PersistenceError({
        message: `the lookup of ${JSON.stringify(PrimaryKey.value(key))} could not be coordinated: ${error.message}`,
        cause: error
      })
  )

const waitedTooLong = (key: Persistable.Any, millis: number): Persistence.PersistenceError =>
  new Persistence.PersistenceError({
    message: `other clients looked up ${JSON.stringify(PrimaryKey.value(key))} for longer than ${
      Duration.format(Duration.millis(millis))
    }, and wrote no result`
  })
