/**
 * Distributed semaphores: at most N permits held at a time across all processes, first come, first served.
 *
 * `withPermits(n)(effect)` is what most programs need. It holds n permits while the effect runs, interrupts the effect
 * when they are lost, and fences its writes: the store rejects them once the permits are not held any more. The permits
 * of a process that crashes return with its lease.
 *
 * The number N is stored as `NAME/permits/limit`, and every client must be configured with it. The other keys under
 * `NAME/permits/` are the holders and waiters: do not put data there.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { NodeInspectSymbol } from "effect/Inspectable"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as heldLock from "../internal/queue/heldLock.ts"
import { asPermits } from "../internal/queue/lockOptions.ts"
import type { AcquireOptions, Lock } from "../internal/queue/model.ts"
import * as request from "../internal/queue/request.ts"
import * as queues from "../internal/queue/use.ts"
import * as permitKeys from "../internal/semaphore/permitKeys.ts"
import * as permitQueue from "../internal/semaphore/permitQueue.ts"
import { Kv } from "../service/Kv.ts"
import type { Entry } from "../values/Entry.ts"
import type * as KvError from "../values/KvError.ts"
import type { PermitsMismatch, TooManyPermits } from "../values/SemaphoreError.ts"
import type { LockFailure, Options } from "./DistLock.ts"

/**
 * The failures that acquiring and holding permits add to an effect's own. `LockTimeout`, `LockLost` and
 * `LockHoldExceeded` have the kind `semaphore`, and the semaphore's name as `lock`.
 *
 * @since 0.1.0
 */
export type Failure<
  Timeout extends Duration.Input | undefined = Duration.Input | undefined,
  Hold extends Duration.Input | undefined = Duration.Input | undefined
> = LockFailure<Timeout, Hold> | PermitsMismatch | TooManyPermits

/**
 * A holder of permits, or a waiter for them.
 *
 * @since 0.1.0
 */
export interface Contender {
  /** The key with which it holds the permits or waits for them. */
  readonly key: string
  /** How many permits it holds or waits for. */
  readonly permits: number
  /** The fencing token: the revision at which it entered the queue. */
  readonly token: bigint
  /** Its lease; `none` for a key without a lease, which was not put by a semaphore and does not expire. */
  readonly lease: Option.Option<bigint>
  /** The `description` option of its acquisition. */
  readonly description: string
}

/**
 * A semaphore of all processes that use its name.
 *
 * @since 0.1.0
 */
export interface DistSemaphore {
  /** The semaphore's name. */
  readonly name: string
  /**
   * Runs an effect while holding that many permits.
   *
   * **Details**
   *
   * Waits for its turn, indefinitely unless `acquireTimeout` is given. Waiters do not overtake: one for many permits is not
   * starved by waiters for few. When the permits are lost, the effect is interrupted, its finalizers run, and the whole
   * fails with `LockLost`. The effect's writes are fenced, as `DistLock.withDistLock` describes. The permits are released
   * when the effect's finalizers have run, and the failure of a release never replaces the effect's own.
   *
   * Fails with `TooManyPermits` at once if the semaphore has fewer permits, or as soon as a resize leaves fewer.
   *
   * **Gotchas**
   *
   * A fiber that holds permits and requests more than the rest fails with `InvalidRequest`: it would wait for itself.
   */
  readonly withPermits: <
    Timeout extends Duration.Input | undefined = undefined,
    Hold extends Duration.Input | undefined = undefined
  >(
    permits: number,
    options?: Options<Timeout, Hold>
  ) => <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | Failure<Timeout, Hold>, R>
  /**
   * Runs a function of what is held, as {@link withPermits} runs an effect.
   *
   * **When to use**
   *
   * If the work needs the `token`, for a resource outside the store, or `isHeld` and `heldFor`.
   */
  readonly use: <
    A,
    E,
    R,
    Timeout extends Duration.Input | undefined = undefined,
    Hold extends Duration.Input | undefined = undefined
  >(
    permits: number,
    f: (held: Lock) => Effect.Effect<A, E, R>,
    options?: Options<Timeout, Hold>
  ) => Effect.Effect<A, E | Failure<Timeout, Hold>, R>
  /**
   * Runs an effect while holding that many permits, if they are available now; otherwise returns `none`.
   *
   * **Details**
   *
   * As {@link withPermits}, but it never waits for another client. Permits that a waiter is waiting for are not
   * available. An attempt that finds too few leaves no key and delays no other client.
   */
  readonly withPermitsIfAvailable: <Hold extends Duration.Input | undefined = undefined>(
    permits: number,
    options?: Omit<Options<undefined, Hold>, "acquireTimeout">
  ) => <A, E, R>(
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<Option.Option<A>, E | Failure<undefined, Hold>, R>
  /**
   * Acquires that many permits, after waiting for its turn, and holds them until the scope closes.
   *
   * **Gotchas**
   *
   * Writes are not fenced, and nothing is interrupted when the permits are lost. Run the work with `DistLock.fenced`.
   */
  readonly acquire: (
    permits: number,
    options?: AcquireOptions
  ) => Effect.Effect<Lock, Failure<Duration.Input, undefined>, Scope.Scope>
  /**
   * Acquires that many permits if they are available now, and holds them until the scope closes. It never waits for
   * another client, and leaves nothing if it does not acquire.
   */
  readonly tryAcquire: (
    permits: number,
    options?: Omit<AcquireOptions, "acquireTimeout">
  ) => Effect.Effect<Option.Option<Lock>, Failure<undefined, undefined>, Scope.Scope>
  /** The number of permits in the store. */
  readonly permits: Effect.Effect<number, KvError.KvError>
  /**
   * The holders, in the order in which they came.
   *
   * **Gotchas**
   *
   * After a resize to fewer permits, a holder that has no room in the new number is listed as a waiter.
   */
  readonly holders: Effect.Effect<ReadonlyArray<Contender>, KvError.KvError>
  /** The waiters, in the order in which they will acquire their permits. */
  readonly waiters: Effect.Effect<ReadonlyArray<Contender>, KvError.KvError>
  /**
   * Sets the number of permits for all clients, and admits the waiters that have room in it. Clients that use the
   * semaphore follow. Clients that start must be configured with the new number.
   *
   * **Details**
   *
   * Holders keep their permits, even if the number is less than they hold. Then no waiter is admitted until enough of
   * them were released. A waiter for more permits than that fails with `TooManyPermits`.
   */
  readonly resize: (permits: number) => Effect.Effect<void, Failure<undefined, undefined>>
  /**
   * Removes the number of permits from the store, unless there is a holder or a waiter; false if there is one.
   *
   * **When to use**
   *
   * For a name that is used once, so that it leaves no key. A client that uses the name again stores its number again.
   */
  readonly remove: Effect.Effect<boolean, KvError.KvError>
}

/**
 * Makes a semaphore with that many permits, or joins the one of that name. Fails with `PermitsMismatch` if that has
 * another number of permits.
 *
 * **Details**
 *
 * The number stays in the store when the semaphore is not used any more. For a name that is used once, see `remove`.
 *
 * @example
 * ```ts
 * import { DistSemaphore, Kv } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const imports = yield* DistSemaphore.make("imports", { permits: 5 })
 *   yield* Kv.put("imported", "yes").pipe(imports.withPermits(2, { acquireTimeout: "10 seconds" }))
 *   yield* Kv.get("imported") // => Option.some("yes")
 *   const holders = yield* imports.holders
 *   holders.length // => 0
 * })
 * ```
 *
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  name: string,
  options: {
    /** How many permits there are: at least 1. Every client of the name must give the same number. */
    readonly permits: number
  }
): Effect.fn.Return<DistSemaphore, KvError.KvError | PermitsMismatch, Kv> {
  const kv = yield* Kv
  yield* Effect.andThen(request.inOrder(name), permitQueue.checkPermits(options.permits))
  const semaphore: permitQueue.Semaphore = {
    kv,
    name,
    configured: options.permits,
    permits: options.permits,
    createRevision: 0n
  }
  yield* permitQueue.refresh(semaphore)
  return of(semaphore)
})

const of = (semaphore: permitQueue.Semaphore): DistSemaphore => {
  const { kv, name } = semaphore

  /** The queue for a request, once the request was checked. */
  const queuesFor = (weight: number, options: AcquireOptions | undefined) =>
    Effect.map(
      permitQueue.checkWeight(semaphore, weight),
      (): queues.Queues<permitQueue.Failure> => [permitQueue.queueOf(semaphore, weight, options?.description)]
    )

  /** Tries at once, and again if the attempt only found out that the number of permits has changed. */
  const ifAvailable = <A, E, R>(
    weight: number,
    options: AcquireOptions | undefined,
    attempt: (
      queues: queues.Queues<permitQueue.Failure>,
      enterIfFree: queues.EnterIfFree
    ) => Effect.Effect<Option.Option<A>, E, R>
  ): Effect.Effect<Option.Option<A>, E | permitQueue.Failure, R> =>
    Effect.flatMap(queuesFor(weight, options), (entered) => {
      const outcome = { isRefused: false }
      const enterIfFree = permitQueue.enterIfFree(semaphore, weight, options?.description, outcome)
      return Effect.flatMap(attempt(entered, enterIfFree), (result) =>
        outcome.isRefused
          ? Effect.andThen(entered[0].onRefused, ifAvailable(weight, options, attempt))
          : Effect.succeed(result))
    })

  const use = <A, E, R>(weight: number, f: (held: Lock) => Effect.Effect<A, E, R>, options?: Options) =>
    Effect.flatMap(
      queuesFor(weight, options),
      (entered) => queues.use(kv, entered, (lock) => f(heldLock.single(lock)), asPermits(options))
    )

  const withPermits = (weight: number, options?: Options) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    use(weight, () => effect, options)

  const withPermitsIfAvailable = (weight: number, options?: Options) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    ifAvailable(
      weight,
      options,
      (entered, enterIfFree) => queues.useIfFree(kv, entered, enterIfFree, () => effect, asPermits(options))
    )

  const contenders = Effect.map(permitQueue.read(semaphore), ({ contenders, permits }) => {
    const all = contenders.map(describe)
    let held = 0
    const waiting = all.findIndex((contender) => (held += contender.permits) > permits)
    return { all, holders: waiting < 0 ? all.length : waiting }
  })

  return {
    name,
    // The failures of limits that are not given cannot happen.
    withPermits: withPermits as DistSemaphore["withPermits"],
    use: use as DistSemaphore["use"],
    withPermitsIfAvailable: withPermitsIfAvailable as DistSemaphore["withPermitsIfAvailable"],
    acquire: (weight, options) =>
      Effect.flatMap(
        queuesFor(weight, options),
        (entered) => Effect.map(queues.acquire(kv, entered, asPermits(options)), heldLock.single)
      ),
    tryAcquire: (weight, options) =>
      Effect.map(
        ifAvailable(weight, options, (entered, enterIfFree) =>
          queues.tryAcquire(kv, entered, enterIfFree, asPermits(options))),
        Option.map(heldLock.single)
      ),
    permits: permitQueue.stored(semaphore),
    holders: Effect.map(contenders, ({ all, holders }) => all.slice(0, holders)),
    waiters: Effect.map(contenders, ({ all, holders }) => all.slice(holders)),
    resize: (permits) => permitQueue.resize(semaphore, permits),
    remove: permitQueue.remove(semaphore)
  }
}

const describe = (entry: Entry): Contender => new ContenderOf(entry)

/** A class because of `toJSON` and `inspect`: JSON has no bigints. */
class ContenderOf implements Contender {
  readonly key: string
  readonly permits: number
  readonly token: bigint
  readonly lease: Option.Option<bigint>
  readonly description: string

  constructor(entry: Entry) {
    const { description, weight } = permitKeys.permitsOf(entry)
    this.key = entry.key
    this.permits = weight
    this.token = entry.createRevision
    this.lease = entry.lease
    this.description = description
  }

  toJSON(): unknown {
    return {
      key: this.key,
      permits: this.permits,
      token: `${this.token}`,
      lease: Option.getOrUndefined(this.lease)?.toString(16),
      description: this.description
    }
  }

  [NodeInspectSymbol](): unknown {
    return this.toJSON()
  }
}
