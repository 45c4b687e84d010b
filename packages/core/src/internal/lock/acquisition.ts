/**
 * The acquisition of locks: one or several after waiting in their queues, or all at once if all are free.
 */
import type { NonEmptyArray, NonEmptyReadonlyArray } from "effect/Array"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { Kv } from "../../service/KvService.ts"
import * as Deadline from "../../values/Deadline.ts"
import * as KvError from "../../values/KvError.ts"
import { type LockLost, LockTimeout } from "../../values/LockError.ts"
import * as internals from "../kv/internals.ts"
import type { LockOfSession } from "../session/lossLog.ts"
import * as useSession from "../session/useSession.ts"
import { annotationOf } from "../values/lockKind.ts"
import type { Claim, Contender } from "./contender.ts"
import * as contender from "./contender.ts"
import * as heldLock from "./heldLock.ts"
import { kindOf } from "./lockOptions.ts"
import * as lockQueue from "./lockQueue.ts"
import type { AcquireOptions } from "./model.ts"

/** How far an attempt has come, for the message of a timeout. */
interface Progress {
  token: Option.Option<bigint>
  /**
   * Completes when the store has responded that another contender is ahead. From then on the attempt waits for others.
   */
  readonly isBehind: Deferred.Deferred<void>
  /** Why the last request could not reach the store; `none` if it could. */
  lastFailure: () => Option.Option<KvError.Reason>
  /** The key ahead if it has no lease, so that it does not expire. */
  blockedBy: Option.Option<string>
}

const noResponse = (): Option.Option<KvError.Reason> =>
  Option.some(new KvError.Unavailable({ message: "the store did not respond in time" }))

/** Acquires all the locks, in the order given, within `acquireTimeout`. They are released when the scope closes. */
export const acquire = (
  kv: Kv,
  names: NonEmptyReadonlyArray<string>,
  options: AcquireOptions | undefined,
  scope: Scope.Scope
): Effect.Effect<heldLock.HeldLock, KvError.KvError | LockTimeout | LockLost> =>
  Effect.suspend(() => {
    const progress: Progress = {
      token: Option.none(),
      isBehind: Deferred.makeUnsafe(),
      lastFailure: noResponse,
      blockedBy: Option.none()
    }
    const attempt = acquireAll(kv, names, options, scope, progress)
    return internals.of(kv).sessions.onClock(
      options?.acquireTimeout === undefined
        ? attempt
        : withTimeout(attempt, options.acquireTimeout, { kind: kindOf(options), lock: names.join(", ") }, progress)
    )
  })

const acquireAll = Effect.fnUntraced(function*(
  kv: Kv,
  names: NonEmptyReadonlyArray<string>,
  options: AcquireOptions | undefined,
  scope: Scope.Scope,
  progress: Progress
) {
  const claim = yield* contender.makeClaim(kv, kindOf(options), names[0], scope)
  const scopeOfEach = yield* scopes(scope, names.length)
  const [first, ...others] = names
  const enterOne = Effect.fnUntraced(function*(name: string, entered: ReadonlyArray<Contender>) {
    progress.lastFailure = noResponse
    progress.blockedBy = Option.none()
    const { own, standing } = yield* enter(kv, name, options, yield* scopeOfEach, claim)
    claim.latest = own.logged
    progress.token = Option.some(own.logged.token)
    progress.lastFailure = () => Option.fromUndefinedOr(own.session.lastFailureUnsafe())
    if (standing._tag !== "First") {
      yield* Effect.raceFirst(awaitTurn(own, standing, progress), Deferred.await(claim.lost))
    }
    yield* mustBeHeld([...entered, own], claim)
    return own
  })
  const contenders: NonEmptyArray<Contender> = [yield* enterOne(first, [])]
  for (const name of others) contenders.push(yield* enterOne(name, contenders))
  return yield* heldLock.make(contenders, claim)
})

/** Acquires all the locks if none of them has a holder or a waiter; otherwise returns `none` and leaves nothing. */
export const tryAcquire = Effect.fnUntraced(function*(
  kv: Kv,
  names: NonEmptyReadonlyArray<string>,
  options: AcquireOptions | undefined,
  scope: Scope.Scope
) {
  const claim = yield* contender.makeClaim(kv, kindOf(options), names[0], scope)
  const entered = yield* enterIfFree(kv, names, options, scope, claim)
  if (entered === undefined) return Option.none<heldLock.HeldLock>()
  claim.latest = entered[0].logged
  yield* mustBeHeld(entered, claim)
  return Option.some(yield* heldLock.make(entered, claim))
})

/**
 * A scope for each lock. Several are released in parallel: one after the other would take a round trip for each name.
 */
const scopes = (scope: Scope.Scope, count: number): Effect.Effect<Effect.Effect<Scope.Scope>> =>
  count === 1
    ? Effect.succeed(Effect.succeed(scope))
    : Effect.map(Scope.fork(scope, "parallel"), (parallel) => Scope.fork(parallel))

/** Enters the queue; leaves it when the scope closes. */
const enter = (
  kv: Kv,
  name: string,
  options: AcquireOptions | undefined,
  scope: Scope.Scope,
  claim: Claim
): Effect.Effect<{ readonly own: Contender; readonly standing: lockQueue.Standing }, KvError.KvError> =>
  useSession.withLive(internals.of(kv).sessions, options?.ttl, scope, (session) =>
    Effect.gen(function*() {
      while (true) {
        const own = contender.make(kv, name, session, options, scope, claim)
        const write = lockQueue.enter(
          internals.of(kv).unfenced,
          name,
          own.key,
          session.lease,
          options?.description ?? ""
        )
        const entered = yield* contender.put([own], write)
        // The key exists already. Its name stays claimed, so the next attempt uses another.
        if (entered !== undefined) return { own, standing: entered.standing }
      }
    }))

/** Enters all queues if they are empty; `undefined` if one is not. All keys are attached to one session. */
const enterIfFree = (
  kv: Kv,
  names: NonEmptyReadonlyArray<string>,
  options: AcquireOptions | undefined,
  scope: Scope.Scope,
  claim: Claim
): Effect.Effect<NonEmptyReadonlyArray<Contender> | undefined, KvError.KvError> =>
  useSession.withLive(internals.of(kv).sessions, options?.ttl, scope, (session) =>
    Effect.gen(function*() {
      const scopeOfEach = yield* scopes(scope, names.length)
      const contenders = yield* Effect.forEach(names, (name) =>
        Effect.map(scopeOfEach, (scope) => contender.make(kv, name, session, options, scope, claim)))
      const write = lockQueue.enterIfFree(
        internals.of(kv).unfenced,
        contenders,
        session.lease,
        options?.description ?? ""
      )
      const entered = yield* contender.put(contenders, write)
      if (entered !== undefined) {
        return contenders
      }
      contenders.forEach(contender.unclaim)
      return undefined
    }))

const awaitTurn = (
  own: Contender,
  entered: lockQueue.Standing,
  progress: Progress
): Effect.Effect<void, KvError.KvError | LockLost> => {
  let failure: KvError.Reason | undefined
  progress.lastFailure = () => Option.fromUndefinedOr(failure ?? own.session.lastFailureUnsafe())
  const observer: lockQueue.Observer = {
    onStanding: (standing) =>
      Effect.suspend(() => {
        failure = undefined
        if (standing._tag !== "Behind") return Effect.void
        Deferred.doneUnsafe(progress.isBehind, Effect.void)
        const isKnown = Option.contains(progress.blockedBy, standing.predecessor)
        if (!isKnown) progress.blockedBy = standing.isPermanent ? Option.some(standing.predecessor) : Option.none()
        return standing.isPermanent && !isKnown ? warnOfBlocker(own.logged, standing.predecessor) : Effect.void
      }),
    onFailure: (reason) => {
      failure = reason
    }
  }
  return Effect.flatMap(
    lockQueue.awaitTurn(internals.of(own.kv).unfenced, own.name, contender.placeOf(own), entered, observer),
    (standing) =>
      standing === "First"
        ? Effect.void
        : Effect.andThen(contender.lose([own], contender.keyDeleted), Deferred.await(own.claim.loss))
  )
}

const warnOfBlocker = ({ kind, lock }: LockOfSession, key: string): Effect.Effect<void> =>
  Effect.annotateLogs(
    Effect.logWarning(`effect-kv: a ${kind} is blocked by a key without a lease; delete the key to unblock it`),
    { ...annotationOf(kind, lock), key }
  )

/** The last check before a lock is returned: nothing is known to be lost, and the sessions have time left. */
const mustBeHeld = (contenders: ReadonlyArray<Contender>, claim: Claim): Effect.Effect<void, LockLost> =>
  Effect.suspend(() => {
    for (const { logged, session } of contenders) {
      if (!session.isAliveUnsafe()) contender.fail(claim, logged, "its session ended while it waited")
    }
    return Deferred.isDoneUnsafe(claim.lost) ? Deferred.await(claim.lost) : Effect.void
  })

/** How long the store has to respond to the first request, however short the timeout is. */
const firstResponseLimit = Duration.seconds(1)

const withTimeout = Effect.fnUntraced(function*<A, E, R>(
  attempt: Effect.Effect<A, E, R>,
  limit: Duration.Input,
  named: Pick<LockOfSession, "kind" | "lock">,
  progress: Progress
) {
  const began = yield* Clock.monotonicTimeNanos
  const timeout = Duration.fromInputUnsafe(limit)
  // The timeout limits waiting for other holders, which begins with the first response. So a free lock is acquired with
  // any timeout.
  const untilFirstResponse = Duration.subtract(
    Duration.min(firstResponseLimit, (yield* Deadline.Deadline) ?? firstResponseLimit),
    timeout
  )
  const isOver = Effect.andThen(
    Effect.sleep(timeout),
    Duration.isPositive(untilFirstResponse)
      ? Effect.timeoutOption(Deferred.await(progress.isBehind), untilFirstResponse)
      : Effect.void
  )
  return yield* Effect.raceFirst(
    attempt,
    Effect.flatMap(isOver, () =>
      Effect.flatMap(Clock.monotonicTimeNanos, (now) =>
        Effect.fail(
          new LockTimeout({
            ...named,
            token: progress.token,
            waitedMillis: Math.floor(Duration.toMillis(Duration.nanos(now - began))),
            storeFailure: progress.lastFailure(),
            blockedBy: progress.blockedBy
          })
        )))
  )
})
