/**
 * Distributed locks: exclusive across processes and between the fibers of one, first come first served.
 *
 * `withDistLock(name)(effect)` is what most programs want: it holds the lock while the effect runs, interrupts the effect
 * when the lock is lost, and gives it a `Kv` whose writes are refused by the store once the lock is not held any more.
 * Excludes, and is excluded by, Go's `concurrency.Mutex` and `etcdctl lock` of the same name.
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { dual } from "effect/Function"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Deadline from "./Deadline.ts"
import type { Entry } from "./Entry.ts"
import * as acquisition from "./internal/acquisition.ts"
import * as fencing from "./internal/fencing.ts"
import { maxTtlSeconds } from "./internal/grantSeconds.ts"
import * as lockQueue from "./internal/lockQueue.ts"
import * as KeyRange from "./KeyRange.ts"
import { Kv } from "./Kv.ts"
import * as KvError from "./KvError.ts"
import { LockHoldExceeded, LockLost, LockTimeout } from "./LockError.ts"

/** A lock that is held. */
export interface Lock {
  /** Its name. */
  readonly name: string
  /** The key it is held by. */
  readonly key: string
  /** The fencing token: the key's create revision. Each holder's is larger than those of all before it. */
  readonly token: bigint
  /** Each of the locks that were taken as one, in the order they were taken. */
  readonly all: ReadonlyArray<{ readonly name: string; readonly key: string; readonly token: bigint }>
  /** Whether it is held, as far as is known at this moment. Only a fenced write can be sure. */
  readonly isHeld: Effect.Effect<boolean>
  /** Waits until the lock is lost or given back, and fails then. */
  readonly lost: Effect.Effect<never, LockLost>
  /** For how long it has been held. */
  readonly heldFor: Effect.Effect<Duration.Duration>
}

/** Options of taking a lock. */
export interface AcquireOptions {
  /**
   * Time to live of the lease the lock is held by: how long others must wait after its holder has died without a word.
   * Renewed by itself as long as the holder lives. Default: 10 seconds.
   */
  readonly ttl?: Duration.Input | undefined
  /**
   * How long to wait for it; then fails with `LockTimeout` and leaves nothing. 0 is allowed: a free lock is acquired with any
   * timeout, since the store always has a second (or the call's `Deadline`, if that is shorter) to answer the first request.
   * Default: for ever.
   */
  readonly acquireTimeout?: Duration.Input | undefined
  /** What the holder wants known of itself, for operators: see {@link holder}. Not a secret. Default: empty. */
  readonly description?: string | undefined
}

/** Options of {@link withDistLock}. */
export interface Options extends AcquireOptions {
  /**
   * How long it may be held, counted from when it was taken; then the effect is interrupted and fails with
   * `LockHoldExceeded`, however healthy the lease. The lock is given back when the effect's finalizers have run. Default:
   * for ever.
   */
  readonly maxHold?: Duration.Input | undefined
  /**
   * Whether the `Kv` in the effect's environment is fenced: its writes are conditional on the lock. Default: true.
   */
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
    return options?.acquireTimeout === undefined
      ? attempt
      : timedOut(attempt, options.acquireTimeout, nameOf(names), progress)
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
    (scope) => acquisition.tryAcquire(kv, name, options, scope),
    (exit) => Exit.isSuccess(exit) && Option.isSome(exit.value)
  )
})

/** The failures that taking and holding a lock add to an effect's own. */
export type Failure = KvError.KvError | LockTimeout | LockLost | LockHoldExceeded

/**
 * Runs the effect while holding the lock, or all of several locks.
 *
 * **Details**
 *
 * Waits for its turn, however long, unless `acquireTimeout` is given. When the lock is lost the effect is interrupted,
 * its finalizers run, and the whole fails with `LockLost`; it does so too when the effect succeeded and yet the lock
 * turned out not to be held at its end. Within the effect the `Kv` of the environment is fenced: its writes are
 * transactions on the condition that the lock is held, and fail with the reason `LockLost` otherwise. The effect's own
 * failure is never replaced by that of a release.
 *
 * **Gotchas**
 *
 * Not reentrant: an effect that holds a lock and asks for it again waits for itself.
 *
 * Effects on other things than the store cannot be fenced this way: use {@link withLock} and give them the token, for them
 * to refuse one smaller than they have seen.
 */
export const withDistLock: {
  (names: Names, options?: Options): <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | Failure, R | Kv>
  <A, E, R>(effect: Effect.Effect<A, E, R>, names: Names, options?: Options): Effect.Effect<A, E | Failure, R | Kv>
} = dual(
  (args) => Effect.isEffect(args[0]),
  <A, E, R>(effect: Effect.Effect<A, E, R>, names: Names, options?: Options): Effect.Effect<A, E | Failure, R | Kv> =>
    withLock(names, options, (_lock) => effect)
)

/** Runs what is made of the lock while holding it: {@link withDistLock} for those who want its token. */
export const withLock = <A, E, R>(
  names: Names,
  options: Options | undefined,
  use: (lock: Lock) => Effect.Effect<A, E, R>
): Effect.Effect<A, E | Failure, R | Kv> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const kv = yield* Kv
      const scope = yield* Scope.make()
      const lock = yield* restore(acquireIn(kv, names, options, scope)).pipe(
        Effect.onExit((exit) => Exit.isFailure(exit) ? Scope.close(scope, exit) : Effect.void)
      )
      // Suspended, so that what it throws is its own failure, and the lock is given back all the same.
      const used = Effect.suspend(() => use(lock))
      const body = options?.fenced === false ? used : Effect.provideService(used, Kv, fencing.fence(kv, lock))
      const limits = options?.maxHold === undefined
        ? lock.lost
        : Effect.raceFirst(lock.lost, holdExceeded(lock, options.maxHold))
      const exit = yield* Effect.exit(restore(Effect.raceFirst(body, limits)))
      // What the effect did is only worth reporting if the lock was still held when it ended.
      const heldToTheEnd = yield* lock.isHeld
      yield* Scope.close(scope, exit)
      if (Exit.isFailure(exit)) return yield* Option.getOrElse(refusedWrite(lock, exit), () => exit)
      return heldToTheEnd && !acquisition.wasMissing(lock)
        ? exit.value
        : yield* new LockLost({
          lock: lock.name,
          token: lock.token,
          how: "it was not held any more when its work was done"
        })
    })
  )

/** The effect's failure, if it is only that of a write which was refused because the lock was lost. */
const refusedWrite = <E>(lock: Lock, exit: Exit.Failure<unknown, E>): Option.Option<LockLost> => {
  const [reason] = exit.cause.reasons
  return exit.cause.reasons.length === 1 && reason?._tag === "Fail" && KvError.isKvError(reason.error) &&
      reason.error.reason._tag === "LockLost" && reason.error.reason.token === lock.token
    ? Option.some(reason.error.reason)
    : Option.none()
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

/**
 * A `Kv` whose every write is conditional on the lock being held; one that is refused changes nothing: `LockLost`.
 *
 * **Gotchas**
 *
 * To be made of the `Kv` that the lock was taken with: in another namespace the lock's key is another one, which nobody
 * holds.
 */
export const fence: {
  (lock: Lock): (kv: Kv) => Kv
  (kv: Kv, lock: Lock): Kv
} = dual(2, (kv: Kv, lock: Lock): Kv => fencing.fence(kv, lock))

/** Who holds the lock now, `none` if nobody does. */
export const holder = (name: string): Effect.Effect<Option.Option<Contender>, KvError.KvError, Kv> =>
  Effect.map(contenders(name), (all) => Option.fromUndefinedOr(all[0]))

/** Who waits for the lock, in the order they will have it. */
export const waiters = (name: string): Effect.Effect<ReadonlyArray<Contender>, KvError.KvError, Kv> =>
  Effect.map(contenders(name), (all) => all.slice(1))

const contenders = Effect.fnUntraced(function*(name: string) {
  const kv = yield* Kv
  const [checked] = yield* inOrder(name)
  return (yield* lockQueue.contenders(kv.bookkeeping, checked)).map(describe)
})

const describe = (entry: Entry): Contender => ({
  key: entry.key,
  token: entry.createRevision,
  lease: entry.lease,
  description: entry.text
})

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
