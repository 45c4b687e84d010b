/**
 * Distributed locks: exclusive across processes and between the fibers of one, first come first served.
 *
 * `withDistLock(name)(effect)` is what most programs want: it holds the lock while the effect runs, interrupts the effect
 * when the lock is lost, and fences its writes: the store rejects them once the lock is not held any more.
 * Excludes, and is excluded by, Go's `concurrency.Mutex` and `etcdctl lock` of the same name.
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { dual } from "effect/Function"
import { NodeInspectSymbol } from "effect/Inspectable"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as guard from "../internal/kv/guard.ts"
import * as internals from "../internal/kv/internals.ts"
import * as kvService from "../internal/kv/makeKv.ts"
import * as acquisition from "../internal/lock/acquisition.ts"
import * as holdings from "../internal/lock/holdings.ts"
import * as fencing from "../internal/lock/lockFence.ts"
import * as lockQueue from "../internal/lock/lockQueue.ts"
import type { AcquireOptions, Lock } from "../internal/lock/model.ts"
import { maxTtlSeconds } from "../internal/values/grantSeconds.ts"
import * as Fence from "../service/Fence.ts"
import { Kv } from "../service/Kv.ts"
import * as Deadline from "../values/Deadline.ts"
import type { Entry } from "../values/Entry.ts"
import * as KeyRange from "../values/KeyRange.ts"
import * as KvError from "../values/KvError.ts"
import { LockHoldExceeded, LockLost, LockTimeout } from "../values/LockError.ts"

export type {
  /** Options of acquiring a lock. */
  AcquireOptions,
  /** A lock that is held. */
  Lock
}

/**
 * Options of {@link withDistLock}. `Timeout` and `Hold` are the types of `acquireTimeout` and `maxHold`, `undefined` if they
 * are not given: then the failures they bring are not in the error type.
 */
export interface Options<
  out Timeout extends Duration.Input | undefined = Duration.Input | undefined,
  out Hold extends Duration.Input | undefined = Duration.Input | undefined
> extends Omit<AcquireOptions, "acquireTimeout"> {
  /** How long to wait for it; then fails with `LockTimeout` and leaves nothing. Default: indefinitely. */
  readonly acquireTimeout?: Timeout | undefined
  /**
   * How long it may be held, counted from when it was acquired; then the effect is interrupted and fails with
   * `LockHoldExceeded`, however healthy the lease. The lock is released when the effect's finalizers have run. Default:
   * indefinitely.
   */
  readonly maxHold?: Hold | undefined
  /** Whether the effect's writes are conditional on the lock: see {@link withDistLock}. Default: true. */
  readonly fenced?: boolean | undefined
}

/** Who holds a lock or waits for it. */
export interface Contender {
  readonly key: string
  /** The fencing token, and the revision since which it has held or waited. */
  readonly token: bigint
  readonly lease: Option.Option<bigint>
  /** What it wants known of itself. */
  readonly description: string
}

/** One lock's name, or several to be taken as one. */
export type Names = string | NonEmptyReadonlyArray<string>

/**
 * Takes the lock, waiting for its turn, and holds it until the scope closes.
 *
 * Given several names takes them all or none, without deadlock whatever the order they are given in. The answer stands
 * for all of them: it is lost with the first that is, and its name, key and token are those of the one taken last.
 *
 * **Gotchas**
 *
 * Nothing interrupts the scope's owner when the lock is lost: watch `lost`, or use {@link withDistLock}.
 */
export const acquire = Effect.fnUntraced(function*(
  names: Names,
  options?: AcquireOptions
): Effect.fn.Return<Lock, KvError.KvError | LockTimeout | LockLost, Kv | Scope.Scope> {
  const kv = yield* Kv
  yield* notWaitingForItself(kv, names)
  return yield* inChildScope((scope) => acquireIn(kv, names, options, scope), Exit.isSuccess)
})

/** Takes the lock until the scope closes; whoever calls closes it where that fails. */
const acquireIn = (
  kv: Kv,
  names: Names,
  options: Options | undefined,
  scope: Scope.Scope
): Effect.Effect<Lock, KvError.KvError | LockTimeout | LockLost> =>
  Effect.flatMap(Effect.andThen(checkDurations(options), inOrder(names)), (ordered) => {
    const progress = acquisition.noProgress()
    const attempt = acquisition.acquireAll(kv, ordered, options, scope, progress)
    return internals.of(kv).sessions.onClock(
      options?.acquireTimeout === undefined
        ? attempt
        : timedOut(attempt, options.acquireTimeout, nameOf(names), progress)
    )
  })

/** How long the store has to answer a first attempt, however short the time for waiting is. */
const firstAttempt = Duration.seconds(1)

const timedOut = Effect.fnUntraced(function*<A, E, R>(
  attempt: Effect.Effect<A, E, R>,
  limit: Duration.Input,
  lock: string,
  progress: acquisition.Progress
) {
  const began = yield* Clock.monotonicTimeNanos
  const timeout = Duration.fromInputUnsafe(limit)
  // A lock that is free is had with any time-out: it is for waiting, and until the store has answered there is no waiting.
  const untilAnswered = Duration.subtract(
    Duration.min(firstAttempt, (yield* Deadline.Deadline) ?? firstAttempt),
    timeout
  )
  const isOver = Effect.andThen(
    Effect.sleep(timeout),
    Duration.isPositive(untilAnswered)
      ? Effect.timeoutOption(Deferred.await(progress.isBehind), untilAnswered)
      : Effect.void
  )
  return yield* Effect.raceFirst(
    attempt,
    Effect.flatMap(isOver, () =>
      Effect.flatMap(Clock.monotonicTimeNanos, (now) =>
        Effect.fail(
          new LockTimeout({
            lock,
            token: progress.token,
            waitedMillis: Math.floor(Duration.toMillis(Duration.nanos(now - began))),
            reason: progress.lastFailure()
          })
        )))
  )
})

/** Runs the effect with a scope within the current one, which is closed at once unless what came of it is to be kept. */
const inChildScope = <A, E, R>(
  use: (scope: Scope.Scope) => Effect.Effect<A, E, R>,
  keep: (exit: Exit.Exit<A, E>) => boolean
): Effect.Effect<A, E, R | Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(Effect.flatMap(Effect.scope, Scope.fork), (scope) =>
      Effect.onExit(
        restore(use(scope)),
        (exit) => keep(exit) ? Effect.void : Scope.close(scope, exit)
      ))
  )

/**
 * Takes the lock if nobody holds it or waits for it, and holds it until the scope closes; never waits for another. One
 * transaction decides: a failed attempt leaves nothing and is in nobody's way.
 */
export const tryAcquire = Effect.fnUntraced(function*(
  name: string,
  options?: Omit<AcquireOptions, "acquireTimeout">
): Effect.fn.Return<Option.Option<Lock>, KvError.KvError | LockLost, Kv | Scope.Scope> {
  const kv = yield* Kv
  yield* Effect.andThen(checkDurations(options), inOrder(name))
  return yield* inChildScope(
    (scope) => internals.of(kv).sessions.onClock(acquisition.tryAcquire(kv, name, options, scope)),
    (exit) => Exit.isSuccess(exit) && Option.isSome(exit.value)
  )
})

/**
 * The failures that acquiring and holding a lock add to an effect's own. `LockTimeout` only with `acquireTimeout`, and
 * `LockHoldExceeded` only with `maxHold`.
 *
 * All of them have `isRetryable` and `outcome`. `LockLost` has the outcome `Unknown` if the effect had begun.
 */
export type Failure<
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
 * Waits for its turn, however long, unless `acquireTimeout` is given. When the lock is lost the effect is interrupted,
 * its finalizers run, and the whole fails with `LockLost`. It does so too if the effect succeeded although the lock was not
 * held at its end, and if the effect failed: then its own failures follow in the cause.
 *
 * The effect's writes are fenced: each is a transaction on the condition that the lock is held, and otherwise fails with the
 * reason `LockLost`. That applies to every `Kv` of the client the lock was acquired with, wherever it comes from, and to all
 * fibers that the effect starts, for as long as they run. See `Fence`.
 *
 * The effect's own failure is never replaced by that of a release.
 *
 * **Gotchas**
 *
 * Not reentrant: a fiber that asks for a lock whose body it runs fails with `InvalidRequest`. A child fiber waits.
 *
 * Fibers that ran before, other runtimes and other clients are not reached: give them `Fence.Current`, or a `Kv` made by
 * {@link fence}. Effects on other things than the store cannot be fenced: use {@link withLock} and give them the token, for
 * them to reject one smaller than they have seen.
 */
export const withDistLock: {
  <Timeout extends Duration.Input | undefined = undefined, Hold extends Duration.Input | undefined = undefined>(
    names: Names,
    options?: Options<Timeout, Hold>
  ): <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | Failure<Timeout, Hold>, R | Kv>
  <
    A,
    E,
    R,
    Timeout extends Duration.Input | undefined = undefined,
    Hold extends Duration.Input | undefined = undefined
  >(
    effect: Effect.Effect<A, E, R>,
    names: Names,
    options?: Options<Timeout, Hold>
  ): Effect.Effect<A, E | Failure<Timeout, Hold>, R | Kv>
} = dual(
  (args) => Effect.isEffect(args[0]),
  <A, E, R, Timeout extends Duration.Input | undefined, Hold extends Duration.Input | undefined>(
    effect: Effect.Effect<A, E, R>,
    names: Names,
    options?: Options<Timeout, Hold>
  ): Effect.Effect<A, E | Failure<Timeout, Hold>, R | Kv> => withLock(names, options, (_lock) => effect)
)

/** Runs what is made of the lock while holding it: {@link withDistLock} for those who want its token. */
export const withLock = <
  A,
  E,
  R,
  Timeout extends Duration.Input | undefined = undefined,
  Hold extends Duration.Input | undefined = undefined
>(
  names: Names,
  options: Options<Timeout, Hold> | undefined,
  use: (lock: Lock) => Effect.Effect<A, E, R>
): Effect.Effect<A, E | Failure<Timeout, Hold>, R | Kv> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const kv = yield* Kv
      yield* notWaitingForItself(kv, names)
      if (options?.fenced !== false) yield* roomForFence(kv, (yield* inOrder(names)).length)
      const scope = yield* Scope.make()
      const lock = yield* restore(acquireIn(kv, names, options, scope)).pipe(
        Effect.onExit((exit) => Exit.isFailure(exit) ? Scope.close(scope, exit) : Effect.void)
      )
      const body = Effect.withFiber<A, E, R>((fiber) =>
        // What it throws is its own failure, and the lock is released all the same.
        Effect.updateContext(Effect.suspend(() => use(lock)), (context: Context.Context<R>) =>
          Context.add(
            options?.fenced === false ? context : Context.add(context, Fence.Current, [
              ...Context.get(context, Fence.Current),
              fencing.inKv(kv, lock)
            ]),
            holdings.Holdings,
            [
              ...Context.get(context, holdings.Holdings),
              holdings.make(kv, lock.all.map(({ name }) => name), fiber.id)
            ]
          ))
      )
      const limit = options?.maxHold === undefined
        ? Effect.never
        : internals.of(kv).sessions.onClock(holdExceeded(lock, options.maxHold))
      return yield* underLock(lock, body, { limit, restore, end: (exit) => Scope.close(scope, exit) })
    })
  ) as Effect.Effect<A, E | Failure<Timeout, Hold>, R | Kv> // the failures of limits that are not given cannot happen

/**
 * Runs the effect under a lock that was acquired by {@link acquire} or {@link tryAcquire}, as {@link withLock} runs its body:
 * fenced, interrupted when the lock is lost. Under a lock that is known to be lost the effect does not begin. Does not release
 * the lock.
 */
export const fenced: {
  (lock: Lock): <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | KvError.KvError | LockLost, R>
  <A, E, R>(effect: Effect.Effect<A, E, R>, lock: Lock): Effect.Effect<A, E | KvError.KvError | LockLost, R>
} = dual(
  2,
  <A, E, R>(effect: Effect.Effect<A, E, R>, lock: Lock): Effect.Effect<A, E | KvError.KvError | LockLost, R> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.gen(function*() {
        const kv = acquisition.kvOf(lock)
        const fence = fencing.of(lock)
        if (kv === undefined || fence === undefined) {
          return yield* invalid("only a lock that acquire or tryAcquire gave can fence an effect")
        }
        yield* roomForFence(kv, lock.all.length)
        // Nothing of the effect was done, and nothing is to be.
        if (!lock.isHeldUnsafe()) return yield* Effect.fail(yield* acquisition.lose(lock, notHeldAtTheStart))
        return yield* underLock(lock, Fence.provide(effect, fence), {
          limit: Effect.never,
          restore,
          end: () => Effect.void
        })
      })
    )
)

interface UnderLock<E2> {
  /** Ends the effect when it fails. */
  readonly limit: Effect.Effect<never, E2>
  readonly restore: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** Run when the effect has ended. */
  readonly end: (exit: Exit.Exit<unknown, unknown>) => Effect.Effect<void>
}

/** Runs the effect until it ends, the limit does or the lock is lost. What is known in the end decides how the whole ends. */
const underLock = Effect.fnUntraced(function*<A, E, R, E2>(
  lock: Lock,
  effect: Effect.Effect<A, E, R>,
  { end, limit, restore }: UnderLock<E2>
) {
  const ended: { exit?: Exit.Exit<A, E> } = {}
  const observed = Effect.onExit(effect, (exit) =>
    Effect.sync(() => {
      ended.exit = exit
    }))
  const limits = limit === Effect.never ? lock.lost : Effect.raceFirst(lock.lost, limit)
  const exit = yield* Effect.exit(restore(Effect.raceFirst(observed, limits)))
  const lostBefore = lock.isHeldUnsafe() ? undefined : yield* acquisition.lose(lock, notHeldAtTheEnd)
  yield* end(exit)
  // A loss that only the release found turns a success into a failure, and leaves a failure as it is.
  const lost = lostBefore ?? (Exit.isSuccess(exit) && acquisition.wasMissing(lock) ? lossAtTheEnd(lock) : undefined)
  if (lost === undefined) return yield* exit
  return yield* Effect.failCause(Cause.fromReasons<E | E2 | LockLost>([
    Cause.makeFailReason(acquisition.unknownOutcome(lost)),
    ...ownReasons(lock, [ended.exit, exit])
  ]))
})

const notHeldAtTheStart = "it was not held any more when its work was to begin"
const notHeldAtTheEnd = "it was not held any more when its work was done"

const lossAtTheEnd = (lock: Lock): LockLost =>
  new LockLost({ lock: lock.name, token: lock.token, how: notHeldAtTheEnd })

/** What failed besides the lock's loss. Whether its end was also an interruption only tells which fiber was faster. */
const ownReasons = <E>(
  lock: Lock,
  exits: ReadonlyArray<Exit.Exit<unknown, E> | undefined>
): ReadonlyArray<Cause.Reason<E>> => {
  const reasons = exits.flatMap((exit) => exit !== undefined && Exit.isFailure(exit) ? exit.cause.reasons : [])
  return [...new Set(reasons)].filter((reason) => !Cause.isInterruptReason(reason) && !isLossOf(lock, reason))
}

/** Whether it is the lock's loss: found by waiting for it, or by a write that was rejected, also if that was a defect. */
const isLossOf = (lock: Lock, reason: Cause.Fail<unknown> | Cause.Die): boolean => {
  const failure = Cause.isFailReason(reason) ? reason.error : reason.defect
  const loss = KvError.isKvError(failure) ? failure.reason : failure
  return loss instanceof LockLost && lock.all.some(({ token }) => token === loss.token)
}

const holdExceeded = (lock: Lock, maxHold: Duration.Input): Effect.Effect<never, LockHoldExceeded> =>
  Effect.flatMap(Effect.sleep(maxHold), () =>
    Effect.fail(
      new LockHoldExceeded({
        lock: lock.name,
        token: lock.token,
        maxHoldMillis: Duration.toMillis(Duration.fromInputUnsafe(maxHold))
      })
    ))

const invalid = (message: string): Effect.Effect<never, KvError.KvError> =>
  KvError.fail(new KvError.InvalidRequest({ message }))

/** A fiber that asks for a lock whose body it runs would wait until it is lost. */
const notWaitingForItself = Effect.fnUntraced(function*(kv: Kv, names: Names) {
  const held = yield* Effect.withFiberSucceed((fiber: Fiber.Fiber<unknown, unknown>) =>
    holdings.heldBy(
      fiber.getRef(holdings.Holdings),
      kv,
      typeof names === "string" ? [names] : names,
      fiber.id
    )
  )
  if (held !== undefined) {
    yield* invalid(
      `the fiber runs under the lock ${JSON.stringify(held)} already and would wait for itself: locks are not reentrant`
    )
  }
})

/** Every write would be rejected, if the fences of all locks did not fit into one transaction. */
const roomForFence = Effect.fnUntraced(function*(kv: Kv, locks: number) {
  const around = yield* Effect.withFiberSucceed((fiber: Fiber.Fiber<unknown, unknown>) =>
    guard.fencesOf(internals.of(kv).origin, fiber).reduce((sum, { conditions }) => sum + conditions.length, 0)
  )
  const problem = guard.tooMany(around + locks)
  if (problem !== undefined) yield* invalid(problem)
})

/**
 * A `Kv` whose every write is conditional on the lock being held, whichever fiber makes it. A write that is rejected changes
 * nothing and fails with the reason `LockLost`.
 *
 * **When to use**
 *
 * For what the fence of {@link withLock} does not reach: fibers that ran before, other runtimes, other clients.
 *
 * **Gotchas**
 *
 * With a `Kv` of another client than the lock was acquired with, the lock's key is a key of that `Kv`: it must be the same
 * namespace of the same store, or every write is rejected.
 */
export const fence: {
  (lock: Lock): (kv: Kv) => Kv
  (kv: Kv, lock: Lock): Kv
} = dual(2, (kv: Kv, lock: Lock): Kv => kvService.withFence(kv, fencing.inKv(kv, lock)))

/** Who holds the lock now, `none` if nobody does. */
export const holder = (name: string): Effect.Effect<Option.Option<Contender>, KvError.KvError, Kv> =>
  Effect.map(contenders(name), (all) => Option.fromUndefinedOr(all[0]))

/** Who waits for the lock, in the order they will have it. */
export const waiters = (name: string): Effect.Effect<ReadonlyArray<Contender>, KvError.KvError, Kv> =>
  Effect.map(contenders(name), (all) => all.slice(1))

const contenders = Effect.fnUntraced(function*(name: string) {
  const kv = yield* Kv
  const [checked] = yield* inOrder(name)
  return (yield* lockQueue.contenders(internals.of(kv).unfenced, checked)).map(describe)
})

const describe = (entry: Entry): Contender => new ContenderOf(entry)

/** A class for its `toJSON` and `inspect`: JSON has no bigint. */
class ContenderOf implements Contender {
  readonly key: string
  readonly token: bigint
  readonly lease: Option.Option<bigint>
  readonly description: string

  constructor(entry: Entry) {
    this.key = entry.key
    this.token = entry.createRevision
    this.lease = entry.lease
    this.description = entry.text
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

/** Rejects invalid durations before anything is sent. */
const checkDurations = (options: Options | undefined): Effect.Effect<void, KvError.KvError> => {
  for (const name of ["acquireTimeout", "maxHold", "ttl"] as const) {
    const input = options?.[name]
    if (input === undefined) continue
    const duration = Duration.fromInput(input)
    // Effect takes a number that is none for no time at all.
    const isValid = !Number.isNaN(input) && Option.isSome(duration) && !Duration.isNegative(duration.value)
    if (name === "ttl" ? isValid && isTtl(input) : isValid) continue
    return KvError.fail(
      new KvError.InvalidRequest({
        message: `${name} must be a duration ${
          name === "ttl" ? `of more than 0 and at most ${maxTtlSeconds} seconds` : "of 0 or more"
        }, not ${printed(input)}`
      })
    )
  }
  return Effect.void
}

const isTtl = (ttl: Duration.Input): boolean => {
  const seconds = Duration.toSeconds(ttl)
  return seconds > 0 && seconds <= maxTtlSeconds
}

const printed = (input: Duration.Input): string =>
  Duration.isDuration(input) ? Duration.format(input) : typeof input === "object" ? JSON.stringify(input) : `${input}`

/** Each name once, in one order for everybody: who takes several locks in the same order cannot deadlock with another. */
const inOrder = (names: Names): Effect.Effect<NonEmptyReadonlyArray<string>, KvError.KvError> => {
  const all = typeof names === "string" ? [names] : [...new Set(names)].sort(KeyRange.compareKeys)
  for (const name of all) {
    const problem = KeyRange.invalidKey(name)
    if (problem !== undefined) {
      return KvError.fail(new KvError.InvalidRequest({ message: `the name of a lock is a key, and ${problem}` }))
    }
  }
  const [head, ...tail] = all
  return head === undefined
    ? KvError.fail(new KvError.InvalidRequest({ message: "name at least one lock" }))
    : Effect.succeed([head, ...tail])
}

const nameOf = (names: Names): string => typeof names === "string" ? names : names.join(", ")
