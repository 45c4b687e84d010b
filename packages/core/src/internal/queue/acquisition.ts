/**
 * The acquisition of what queues guard: after waiting in one or several of them, or at once if it is free.
 */
import type { NonEmptyArray, NonEmptyReadonlyArray } from "effect/Array"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { KvBackend } from "../../backend/KvBackend.ts"
import * as LastFailure from "../../backend/LastFailure.ts"
import type { Kv } from "../../service/KvService.ts"
import * as Deadline from "../../values/Deadline.ts"
import * as KvError from "../../values/KvError.ts"
import { type LockLost, LockTimeout } from "../../values/LockError.ts"
import type { Watcher } from "../../values/Watch.ts"
import * as internals from "../kv/internals.ts"
import type { LockOfSession } from "../session/lossLog.ts"
import type { SharedSession } from "../session/sharedSession.ts"
import * as useSession from "../session/useSession.ts"
import { annotationOf } from "../values/lockKind.ts"
import type { Claim, Contender } from "./contender.ts"
import * as contender from "./contender.ts"
import * as heldLock from "./heldLock.ts"
import { isPlace, kindOf } from "./lockOptions.ts"
import * as lockSpans from "./lockSpans.ts"
import type { AcquireOptions } from "./model.ts"
import * as rule from "./rule.ts"

/** How far an attempt has come, for the message of a timeout. */
interface Progress {
  token: Option.Option<bigint>
  /**
   * Completes when the store has responded that another contender is ahead. From then on the attempt waits for others.
   */
  readonly isBehind: Deferred.Deferred<void>
  /** Its calls to the store. */
  readonly calls: LastFailure.LastFailure
  /** Why the last request could not reach the store; `none` if it could. */
  lastFailure: () => Option.Option<KvError.Reason>
  /** The watch that it waits on. */
  watcher: Watcher | undefined
  /** The key ahead if it has no lease, so that it does not expire. */
  blockedBy: Option.Option<string>
}

/** Why the store has not responded to the request to enter a queue. */
const noResponse = (calls: LastFailure.LastFailure) => (): Option.Option<KvError.Reason> =>
  Option.some(
    new KvError.Unavailable({ message: calls.lastFailure?.message ?? "the store did not respond in time" })
  )

/** Queues in the order in which they are entered. */
type Queues<E> = NonEmptyReadonlyArray<rule.Queue<E>>

/** Called with each contender that has entered its queue, before it waits. */
export type OnEntered = (contender: Contender) => void

/**
 * Waits in all the queues, in the order given, within `acquireTimeout`. They are left when the scope closes. Call it when
 * the effect that it returns is executed.
 */
export const acquire = <E>(
  kv: Kv,
  queues: Queues<E>,
  options: AcquireOptions | undefined,
  scope: Scope.Scope,
  onEntered?: OnEntered
): Effect.Effect<heldLock.HeldLock, E | KvError.KvError | LockTimeout | LockLost> => {
  const calls = new LastFailure.LastFailure()
  const progress: Progress = {
    token: Option.none(),
    isBehind: Deferred.makeUnsafe(),
    calls,
    lastFailure: noResponse(calls),
    watcher: undefined,
    blockedBy: Option.none()
  }
  const attempt = contender.withClaim(
    { kv, options, name: queues[0].name, scope },
    (claim) => acquireAll({ kv, options, claim, progress, onEntered }, queues, scope)
  )
  const kind = kindOf(options)
  const lock = namesOf(queues)
  const inTime = options?.acquireTimeout === undefined
    ? attempt
    : withTimeout(LastFailure.recorded(attempt, calls), options.acquireTimeout, { kind, lock }, progress)
  return internals.of(kv).sessions.onClock(
    isPlace(options) ? inTime : lockSpans.around(kind, lock, inTime, Option.some)
  )
}

const namesOf = (queues: Queues<unknown>): string => queues.map(({ name }) => name).join(", ")

/** What the steps of an acquisition share. */
interface Acquisition {
  readonly kv: Kv
  readonly options: AcquireOptions | undefined
  readonly claim: Claim
  readonly progress: Progress
  readonly onEntered: OnEntered | undefined
}

const acquireAll = <E>(
  acquisition: Acquisition,
  queues: Queues<E>,
  scope: Scope.Scope
): Effect.Effect<heldLock.HeldLock, E | KvError.KvError | LockLost> =>
  queues.length === 1
    ? Effect.map(
      enterAndWait(acquisition, queues[0], scope, []),
      (own) => heldLock.make([own], acquisition.claim)
    )
    : Effect.gen(function*() {
      const scopeOfEach = yield* scopes(scope, queues.length)
      const [first, ...others] = queues
      const contenders: NonEmptyArray<Contender> = [yield* enterAndWait(acquisition, first, yield* scopeOfEach, [])]
      for (const queue of others) {
        contenders.push(yield* enterAndWait(acquisition, queue, yield* scopeOfEach, contenders))
      }
      return heldLock.make(contenders, acquisition.claim)
    })

/** Enters a queue and waits until the rule admits it. `entered` are the contenders in the queues before. */
const enterAndWait = <E>(
  acquisition: Acquisition,
  queue: rule.Queue<E>,
  scope: Scope.Scope,
  entered: ReadonlyArray<Contender>
): Effect.Effect<Contender, E | KvError.KvError | LockLost> => {
  const { claim, kv, onEntered, options, progress } = acquisition
  progress.lastFailure = noResponse(progress.calls)
  progress.blockedBy = Option.none()
  progress.watcher = undefined
  return Effect.flatMap(
    enter(kv, queue, options, scope, claim),
    ({ own, standing }): Effect.Effect<Contender, E | KvError.KvError | LockLost> => {
      if (standing === undefined) {
        return Effect.andThen(queue.onRefused, Effect.suspend(() => enterAndWait(acquisition, queue, scope, entered)))
      }
      claim.latest = own.logged
      progress.token = Option.some(own.logged.token)
      progress.lastFailure = () => Option.fromUndefinedOr(own.session.lastFailureUnsafe())
      onEntered?.(own)
      const admitted = () => {
        if (queue.watchesOwnKey) own.watchKey()
        return mustBeHeld([...entered, own], claim, own)
      }
      return standing._tag === "Admitted" ? admitted() : Effect.flatMap(
        Effect.raceFirst(awaitTurn(own, queue, standing, progress), Deferred.await(claim.lost)),
        admitted
      )
    }
  )
}

/** Enters the queues if that needs no wait, in one request; `undefined` if it wrote nothing. */
export type EnterIfFree = (
  backend: KvBackend,
  contenders: NonEmptyReadonlyArray<Contender>,
  lease: bigint
) => Effect.Effect<{ readonly createRevision: bigint } | undefined, KvError.KvError>

/** Acquires all at once; otherwise returns `none` and leaves nothing. */
export const tryAcquire = (
  kv: Kv,
  queues: Queues<unknown>,
  enterIfFree: EnterIfFree,
  options: AcquireOptions | undefined,
  scope: Scope.Scope
): Effect.Effect<Option.Option<heldLock.HeldLock>, KvError.KvError | LockLost> =>
  lockSpans.around(
    kindOf(options),
    namesOf(queues),
    contender.withClaim(
      { kv, options, name: queues[0].name, scope },
      (claim) => acquireAtOnce(kv, queues, enterIfFree, options, scope, claim)
    ),
    identity
  )

const acquireAtOnce = Effect.fnUntraced(function*(
  kv: Kv,
  queues: Queues<unknown>,
  enterIfFree: EnterIfFree,
  options: AcquireOptions | undefined,
  scope: Scope.Scope,
  claim: Claim
) {
  const entered = yield* enterAll(kv, queues, enterIfFree, options, scope, claim)
  if (entered === undefined) return Option.none<heldLock.HeldLock>()
  claim.latest = entered[0].logged
  for (const own of entered) if (own.queue.watchesOwnKey) own.watchKey()
  return Option.some(heldLock.make(yield* mustBeHeld(entered, claim, entered), claim))
})

/**
 * A scope for each queue. Several are left in parallel: one after the other would take a round trip for each.
 */
const scopes = (scope: Scope.Scope, count: number): Effect.Effect<Effect.Effect<Scope.Scope>> =>
  count === 1
    ? Effect.succeed(Effect.succeed(scope))
    : Effect.map(Scope.fork(scope, "parallel"), (parallel) => Scope.fork(parallel))

/** An attempt to enter. `standing` is undefined if the rule rejected it; then nothing was put. */
interface Attempt {
  readonly own: Contender
  readonly standing: rule.Standing | undefined
}

/** Enters the queue; leaves it when the scope closes. */
const enter = (
  kv: Kv,
  queue: rule.Queue<unknown>,
  options: AcquireOptions | undefined,
  scope: Scope.Scope,
  claim: Claim
): Effect.Effect<Attempt, KvError.KvError> => {
  const put = (session: SharedSession): Effect.Effect<Attempt, KvError.KvError> => {
    const own = contender.make(kv, queue, session, options, scope, claim)
    let isRefused = false
    const write = Effect.map(queue.enter(internals.of(kv).unfenced, own.key, session.lease), (entry) => {
      isRefused = entry._tag === "Refused"
      return entry._tag === "Entered" ? entry : undefined
    })
    return Effect.flatMap(contender.put([own], write), (entered): Effect.Effect<Attempt, KvError.KvError> => {
      if (entered !== undefined) return Effect.succeed({ own, standing: entered.standing })
      if (isRefused) {
        contender.unclaim(own)
        return Effect.succeed({ own, standing: undefined })
      }
      // The key exists already. Its name stays claimed, so the next attempt uses another.
      return put(session)
    })
  }
  return useSession.withLive(internals.of(kv).sessions, options?.ttl, scope, put)
}

/** Enters all queues if none needs a wait; `undefined` if one does. All keys are attached to one session. */
const enterAll = (
  kv: Kv,
  queues: Queues<unknown>,
  enterIfFree: EnterIfFree,
  options: AcquireOptions | undefined,
  scope: Scope.Scope,
  claim: Claim
): Effect.Effect<NonEmptyReadonlyArray<Contender> | undefined, KvError.KvError> =>
  useSession.withLive(internals.of(kv).sessions, options?.ttl, scope, (session) =>
    Effect.gen(function*() {
      const scopeOfEach = yield* scopes(scope, queues.length)
      const contenders = yield* Effect.forEach(queues, (queue) =>
        Effect.map(scopeOfEach, (scope) => contender.make(kv, queue, session, options, scope, claim)))
      const write = enterIfFree(internals.of(kv).unfenced, contenders, session.lease)
      const entered = yield* contender.put(contenders, write)
      if (entered !== undefined) {
        return contenders
      }
      contenders.forEach(contender.unclaim)
      return undefined
    }))

/** Waits until the rule admits the contender. */
const awaitTurn = <E>(
  own: Contender,
  queue: rule.Queue<E>,
  entered: rule.Standing,
  progress: Progress
): Effect.Effect<void, E | KvError.KvError | LockLost> => {
  let failure: KvError.Reason | undefined
  progress.lastFailure = () =>
    Option.fromUndefinedOr(failure ?? failureOf(progress.calls) ?? own.session.lastFailureUnsafe())
  const observer: rule.Observer = {
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
    },
    onWatch: (watcher) => {
      progress.watcher = watcher
    }
  }
  const wait = (standing: rule.Standing): Effect.Effect<void, E | KvError.KvError | LockLost> =>
    Effect.flatMap(queue.awaitTurn(own.kv, contender.placeOf(own), standing, observer), ({ _tag }) => {
      switch (_tag) {
        case "Admitted":
          return Effect.void
        case "Gone":
          return Effect.andThen(contender.lose([own], contender.keyDeleted), Deferred.await(own.claim.loss))
        case "Refused":
          // Usually fails. If the rule has changed since, the contender is still in its place.
          return Effect.andThen(queue.onRefused, Effect.suspend(() => wait(rule.unclear)))
      }
    })
  return wait(entered)
}

/** Why a call cannot reach the store. A call that is merely in flight, such as the next reading of the queue, does not count. */
const failureOf = ({ lastFailure }: LastFailure.LastFailure): KvError.Reason | undefined =>
  lastFailure?._tag === "Unavailable" ? lastFailure : undefined

const warnOfBlocker = ({ kind, lock }: LockOfSession, key: string): Effect.Effect<void> =>
  Effect.annotateLogs(
    Effect.logWarning(`effect-kv: a ${kind} is blocked by a key without a lease; delete the key to unblock it`),
    { ...annotationOf(kind, lock), key }
  )

/**
 * The last check before a lock is returned: nothing is known to be lost, and the sessions have time left. Then the effect
 * that it returns has the result.
 */
const mustBeHeld = <A>(
  contenders: ReadonlyArray<Contender>,
  claim: Claim,
  result: A
): Effect.Effect<A, LockLost> => {
  for (const { logged, session } of contenders) {
    if (!session.isAliveUnsafe()) contender.fail(claim, logged, "its session ended while it waited")
  }
  return Deferred.isDoneUnsafe(claim.lost) ? Deferred.await(claim.lost) : Effect.succeed(result)
}

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
    Effect.gen(function*() {
      yield* isOver
      const now = yield* Clock.monotonicTimeNanos
      const interruption = progress.watcher === undefined ? Option.none() : yield* interruptionOf(progress.watcher)
      return yield* new LockTimeout({
        ...named,
        token: progress.token,
        waitedMillis: Math.floor(Duration.toMillis(Duration.nanos(now - began))),
        storeFailure: Option.orElse(progress.lastFailure(), () => interruption),
        blockedBy: progress.blockedBy
      })
    })
  )
})

/** Why the connection of a watch was lost, if it has not been restored. A watch reports its present state at once. */
const interruptionOf = ({ status }: Watcher): Effect.Effect<Option.Option<KvError.Reason>> =>
  Stream.runHead(status).pipe(
    Effect.timeoutOption("50 millis"),
    Effect.map((found) =>
      Option.flatMap(
        Option.flatten(found),
        (now) =>
          now._tag === "Interrupted" ? Option.some(new KvError.Unavailable({ message: now.message })) : Option.none()
      )
    )
  )
