/**
 * A contender in a queue: it puts its key, notices the loss of the key or of its session, and removes the key when its
 * scope closes.
 */
import * as Array from "effect/Array"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { execute, type KvBackend } from "../../backend/KvBackend.ts"
import type { Kv } from "../../service/KvService.ts"
import * as Compare from "../../values/Compare.ts"
import * as Deadline from "../../values/Deadline.ts"
import type * as KvError from "../../values/KvError.ts"
import { LockLost } from "../../values/LockError.ts"
import * as Op from "../../values/Op.ts"
import * as internals from "../kv/internals.ts"
import type { LockMetrics, LossCause } from "../metrics/client.ts"
import * as deletion from "../session/awaitDeletion.ts"
import * as leasedKey from "../session/leasedKey.ts"
import type { LockOfSession } from "../session/lossLog.ts"
import * as lossLog from "../session/lossLog.ts"
import * as Session from "../session/model.ts"
import * as renewal from "../session/renewal.ts"
import type { SharedSession } from "../session/sharedSession.ts"
import * as spans from "../tracing/spans.ts"
import type { LockKind } from "../values/lockKind.ts"
import { keyOf } from "./contenders.ts"
import type { HoldSpan } from "./holdSpan.ts"
import { isPlace, kindOf } from "./lockOptions.ts"
import type { AcquireOptions } from "./model.ts"
import type { Place, Queue } from "./rule.ts"

/** The shared state of the contenders in queues that are entered as one. */
export interface Claim {
  /** The clock of the sessions. */
  readonly clock: Clock.Clock
  /** Of the fiber that acquires the locks, for background work. */
  readonly context: Context.Context<never>
  /** Fails with the first loss of one of them. */
  readonly loss: Deferred.Deferred<never, LockLost>
  /** Fails with the loss, or earlier when the client closes: then the locks are still held and must be released. */
  readonly lost: Deferred.Deferred<never, LockLost>
  /** Whether the owner awaits the loss. Then the client's close can rely on it to release the locks. */
  isLossAwaited: boolean
  /** The contender that entered last, for messages. */
  latest: LockOfSession
  isHeld: boolean
  /** `undefined` for a place in a queue that is not a lock to its user. */
  readonly metrics: LockMetrics | undefined
  /** The span of the hold; `undefined` while it is not held, and without a tracer. */
  span: HoldSpan | undefined
  /** To be called when the locks are lost or have been released. */
  leave: () => void
}

/** A contender in one queue. */
export interface Contender {
  readonly kv: Kv
  readonly queue: Queue<unknown>
  readonly name: string
  readonly key: string
  readonly options: AcquireOptions | undefined
  readonly claim: Claim
  /** The key is removed when it closes. */
  readonly scope: Scope.Scope
  /** The session that claimed the key's name. */
  readonly claimedOn: SharedSession
  /** The session that the key is attached to. The key may move to another session. */
  session: SharedSession
  /** The lock and the fencing token, as the log names them. The token is 0 until the key was put. */
  readonly logged: { readonly kind: LockKind; readonly lock: string; token: bigint }
  /** The state of the key; `undefined` until it was put. */
  attachment: leasedKey.Attachment | undefined
  /** Watches the key, once it was put. A queue that watches its contenders' keys itself needs that only for holders. */
  watchKey: () => void
  /** Stops watching for a loss. */
  stopGuarding: () => void
}

const released = "it was released"
const clientCloses = "its client is being closed"
export const keyDeleted = "its key was deleted"

/**
 * Makes a claim to locks that lasts until the scope closes, and passes it on. The client's close ends it. On the clock of
 * the sessions.
 */
export const withClaim = <A, E, R>(
  { kv, name, options, scope }: {
    readonly kv: Kv
    readonly options: AcquireOptions | undefined
    readonly name: string
    readonly scope: Scope.Scope
  },
  use: (claim: Claim) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) => {
    const clock = fiber.getRef(Clock.Clock)
    const { context } = fiber
    let claim: Claim | undefined
    let isLeft = false
    // The first finalizer to be added, so it runs after the keys were removed.
    const added = Scope.addFinalizer(
      scope,
      Effect.sync(() => {
        isLeft = true
        claim?.leave()
      })
    )
    return Effect.flatMap(added, () => {
      claim = makeClaim(kv, options, { name, clock, context }, scope)
      if (isLeft) claim.leave()
      return use(claim)
    })
  })

const makeClaim = (
  kv: Kv,
  options: AcquireOptions | undefined,
  { clock, context, name }: Pick<Claim, "clock" | "context"> & { readonly name: string },
  scope: Scope.Scope
): Claim => {
  const { sessions } = internals.of(kv)
  const kind = kindOf(options)
  const metrics = isPlace(options) ? undefined : sessions.metrics.lock(kind)
  const claim: Claim = {
    clock,
    context,
    loss: Deferred.makeUnsafe(),
    lost: Deferred.makeUnsafe(),
    isLossAwaited: false,
    latest: { kind, lock: name, token: 0n },
    isHeld: false,
    metrics,
    span: undefined,
    leave: () => {}
  }
  const removeHolder = sessions.holders.add({
    onClosing: () => {
      const { kind, lock, token } = claim.latest
      Deferred.doneUnsafe(
        claim.lost,
        Effect.failSync(() => new LockLost({ kind, lock, token, reason: clientCloses }))
      )
    },
    isAwaited: (isClosing) => claim.isHeld && (claim.isLossAwaited || isClosing(scope))
  })
  claim.leave = () => {
    removeHolder()
    metrics?.ended()
    claim.span?.released()
  }
  return claim
}

/**
 * Completes the claim's `loss`; true if this is the first loss. Every release completes it and few await it, so the
 * error, which is expensive, is built lazily.
 */
export const fail = (
  claim: Claim,
  { kind, lock, token }: LockOfSession,
  reason: string,
  cause = lossCause(reason)
): boolean => {
  const error = Effect.failSync(() => new LockLost({ kind, lock, token, reason }))
  // Recorded before the loss completes: a fiber that awaits it resumes at once, and may release the lock.
  if (reason !== released && cause !== undefined && !Deferred.isDoneUnsafe(claim.loss)) {
    claim.metrics?.lost(cause)
    claim.span?.lost(Exit.fail(new LockLost({ kind, lock, token, reason })))
  }
  const isFirst = Deferred.doneUnsafe(claim.loss, error)
  Deferred.doneUnsafe(claim.lost, error)
  if (reason !== released) claim.leave()
  return isFirst
}

/** The cause for metrics. A reason may begin with that of a replaced store, and end with details. */
const lossCause = (reason: string): LossCause | undefined => {
  if (reason.endsWith(keyDeleted)) return "KeyDeleted"
  const known = renewal.causes.find(({ text }) => reason.endsWith(text) || reason.includes(`${text}: `))
  return known === undefined ? "Rejected" : known.cause
}

/**
 * Makes a contender with a key that no other contender of its session has. The key is claimed by its name at the
 * client's root, because two namespaces of one client may have different names for it.
 */
export const make = (
  kv: Kv,
  queue: Queue<unknown>,
  session: SharedSession,
  options: AcquireOptions | undefined,
  scope: Scope.Scope,
  claim: Claim
): Contender => {
  const { prefix } = internals.of(kv).origin
  return {
    kv,
    queue,
    name: queue.name,
    key: session.claim(prefix + keyOf(queue.prefix, session.lease)).slice(prefix.length),
    options,
    claim,
    scope,
    claimedOn: session,
    session,
    logged: { kind: claim.latest.kind, lock: queue.name, token: 0n },
    attachment: undefined,
    watchKey: () => {},
    stopGuarding: () => {}
  }
}

/** Gives up the name of a key that does not exist. */
export const unclaim = ({ claimedOn, key, kv }: Contender): void =>
  claimedOn.unclaim(internals.of(kv).origin.prefix + key)

/** The contender's place in the queue, once its key was put. */
export const placeOf = ({ key, logged }: Contender): Place => ({ key, createRevision: logged.token })

/** The condition that the contender's key is the one it put. */
const isInPlace = ({ key, logged }: Contender): Compare.Compare => Compare.createRevision(key, "=", logged.token)

/** Puts the keys of all contenders in one request; `undefined` if it wrote nothing. */
export const put = <A extends { readonly createRevision: bigint }>(
  contenders: NonEmptyReadonlyArray<Contender>,
  write: Effect.Effect<A | undefined, KvError.KvError>
): Effect.Effect<A | undefined, KvError.KvError> =>
  Effect.map(
    leasedKey.writeAll(
      Array.map(contenders, (contender) => ({ plan: new ContenderPlan(contender, write), scope: contender.scope }))
    ),
    ({ attachments, result }) => {
      if (result === undefined) return undefined
      for (const [i, contender] of contenders.entries()) {
        contender.logged.token = result.createRevision
        contender.attachment = attachments[i]!
        // If its scope has closed meanwhile, the key is being removed.
        if (contender.attachment.removal === "None") guard(contender)
        if (!contender.queue.watchesOwnKey) contender.watchKey()
      }
      return result
    }
  )

class ContenderPlan<A extends { readonly createRevision: bigint }> implements leasedKey.Plan<A | undefined> {
  readonly key: string
  readonly write: Effect.Effect<A | undefined, KvError.KvError>
  readonly #contender: Contender

  constructor(contender: Contender, write: Effect.Effect<A | undefined, KvError.KvError>) {
    this.key = contender.key
    this.write = write
    this.#contender = contender
  }

  get backend(): KvBackend {
    return internals.of(this.#contender.kv).unfenced
  }

  get session(): SharedSession {
    return this.#contender.session
  }

  identify(result: A | undefined): Compare.Compare | undefined {
    return result && Compare.createRevision(this.key, "=", result.createRevision)
  }

  onRemove(): void {
    this.#contender.stopGuarding()
    fail(this.#contender.claim, this.#contender.logged, released)
  }

  onGone(): void {
    unclaim(this.#contender)
  }
}

/**
 * Completes the claim's loss as soon as the session is lost or the key is deleted, until `stopGuarding` or the scope's
 * close. Most locks are released before any of it begins, so what it needs is made only then.
 */
const guard = (contender: Contender): void => {
  const { claim, key, kv, logged, scope } = contender
  const fork = (effect: Effect.Effect<void>) =>
    Effect.runForkWith(spans.contextWithout(claim.context))(Effect.forkIn(effect, scope))
  let replaced = ""
  const untilDeleted = () =>
    deletion.await(
      internals.of(kv).unfenced,
      key,
      logged.token,
      (entry) => entry.createRevision === logged.token,
      (reason) => (replaced = `${reason}; `)
    )
  const deleted = Effect.suspend(() => lose([contender], `${replaced}${keyDeleted}`))
  let stopWatch = () => {}
  contender.watchKey = () => {
    stopWatch = contender.session.keyWatchTimer(() => fork(Effect.andThen(untilDeleted(), deleted)))
  }
  let stopSession = () => {}
  let isMoving = false
  const guardSession = () => {
    const { session } = contender
    session.locks.add(logged)
    const stopLoss = session.onLost((reason) => fail(claim, logged, `${replaced}${reason}`))
    const stopDenial = session.onDenied(() => {
      if (isMoving || !contender.queue.isMovable) return
      isMoving = true
      fork(Effect.ensuring(moved(), Effect.sync(() => isMoving = false)))
    })
    stopSession = () => {
      stopLoss()
      stopDenial()
      leaveSession(contender)
    }
  }
  const moved = () =>
    Effect.map(moveKey(contender), (session) => {
      if (session === undefined || contender.attachment?.removal !== "None") return
      stopSession()
      contender.session = session
      guardSession()
    })
  guardSession()
  contender.stopGuarding = () => {
    contender.watchKey = () => {}
    stopWatch()
    stopSession()
  }
}

/**
 * Attaches the key to another session, and returns that session. Needed when the store denies the renewal of the
 * current one: etcd does so if the user may no longer write some other key of its lease. The token, which is the create
 * revision, does not change.
 */
const moveKey = Effect.fnUntraced(
  function*(contender: Contender) {
    const { key, kv, options, scope } = contender
    yield* contender.session.retire
    const session = yield* internals.of(kv).sessions.get(options?.ttl ?? Session.defaultTtl, scope)
    // With the value that it has now: a leader may have proclaimed another than it began with.
    const { unfenced } = internals.of(kv)
    const [entry] = (yield* execute(unfenced, Op.get(key))).entries
    if (entry === undefined) return undefined
    const response = yield* execute(
      unfenced,
      Op.txn({
        if: [isInPlace(contender), Compare.modRevision(key, "=", entry.modRevision)],
        then: [Op.put(key, entry.value, { lease: session.lease })]
      })
    )
    return response.succeeded ? session : undefined
  },
  // If this fails, the next denied renewal tries again.
  Effect.provideService(Deadline.Deadline, Duration.seconds(1)),
  Effect.catch(() => Effect.undefined)
)

/** Removes the lock from its session. On a lost session it stays, so that the log names it. */
const leaveSession = ({ logged, session }: Contender): void => {
  if (session.isAliveUnsafe()) session.locks.delete(logged)
}

/** The name and token that stand for all contenders in messages: every name, and the largest token. */
const loggedAs = (contenders: NonEmptyReadonlyArray<Contender>): LockOfSession => ({
  kind: contenders[0].logged.kind,
  lock: contenders.map(({ name }) => name).join(", "),
  token: contenders.reduce((largest, { logged: { token } }) => token > largest ? token : largest, 0n)
})

/** How long to wait for the store to say whether the session is lost together with the lock. */
const verifyMillis = 1000

/**
 * Completes the claim's loss although the sessions may be alive, and logs it. If a session turns out to be lost too,
 * only the session's warning is logged.
 */
export const lose = (contenders: NonEmptyReadonlyArray<Contender>, reason: string): Effect.Effect<void> =>
  Effect.suspend(() => {
    const lock = loggedAs(contenders)
    const isOutOfTime = contenders.some(({ session }) => !session.isAliveUnsafe())
    if (!fail(contenders[0].claim, lock, reason, isOutOfTime ? "NotRenewed" : lossCause(reason))) return Effect.void
    for (const { logged, session } of contenders) session.locks.add(logged)
    const sessions = [...new Set(contenders.map(({ session }) => session))]
    const sessionIsLost = Effect.raceAllFirst([
      ...sessions.map((session) => Effect.map(session.lostReason, (reason) => !renewal.isOrderly(reason))),
      Effect.delay(Effect.succeed(false), verifyMillis)
    ])
    return Effect.forEach(sessions, (session) => session.verify, { discard: true }).pipe(
      Effect.andThen(sessionIsLost),
      Effect.flatMap((isLost) => isLost ? Effect.void : lossLog.lockLost(lock, reason)),
      Effect.ensuring(Effect.sync(() => contenders.forEach(leaveSession))),
      // Detached, because the owner closes the scope soon after it learns of the loss.
      Effect.forkDetach({ startImmediately: true }),
      Effect.asVoid
    )
    // Uninterruptible, because the loss interrupts the lock's body, and this may be the fiber of a fenced write in it.
  }).pipe(Effect.uninterruptible)
