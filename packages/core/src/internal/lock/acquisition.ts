/**
 * Taking a lock and giving it back: one contender's way through the queue.
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { execute } from "../../backend/KvBackend.ts"
import type { Kv } from "../../service/KvService.ts"
import * as Compare from "../../values/Compare.ts"
import * as Deadline from "../../values/Deadline.ts"
import * as KvError from "../../values/KvError.ts"
import { LockLost } from "../../values/LockError.ts"
import * as Op from "../../values/Op.ts"
import * as internals from "../kv/internals.ts"
import * as deletion from "../session/awaitDeletion.ts"
import * as attachedKey from "../session/leasedKey.ts"
import type { LockOfSession } from "../session/lossLog.ts"
import * as lossLog from "../session/lossLog.ts"
import * as Session from "../session/model.ts"
import * as renewal from "../session/renewal.ts"
import type { SharedSession } from "../session/sharedSession.ts"
import * as useSession from "../session/useSession.ts"
import * as lockQueue from "./lockQueue.ts"
import type { AcquireOptions, Lock } from "./model.ts"

/** One of the locks that are taken as one: held, or waited for. */
interface Hold {
  readonly name: string
  /** It may be moved to another. */
  session: SharedSession
  /** As the log names it. */
  readonly logged: LockOfSession
  readonly place: lockQueue.Place
  readonly attachment: attachedKey.Attachment
}

/** What the locks that are taken as one have in common. */
interface Claim {
  /** Fails with the first loss of one of them. */
  readonly loss: Deferred.Deferred<never, LockLost>
  /** Fails with the loss, or before it when the client closes: the locks are held yet, and are to be given back. */
  readonly lost: Deferred.Deferred<never, LockLost>
  /** Whether somebody wants to know of the loss, so that it can be counted on that the locks are given back. */
  isListenedTo: boolean
  /** The one that was entered last. */
  latest: LockOfSession
  isHeld: boolean
  /** To be called when they are lost or have been given back. */
  leave: () => void
}

/** What an attempt has come to, for a time-out to tell. */
export interface Progress {
  token: bigint
  /** Completes when the store has answered that another is ahead: from then on the attempt waits for others, not for the store. */
  readonly isBehind: Deferred.Deferred<void>
  /** Why the store could not be reached at last; `undefined` if it could. */
  lastFailure: () => KvError.Reason | undefined
}

export const noProgress = (): Progress => ({ token: 0n, isBehind: Deferred.makeUnsafe(), lastFailure: unanswered })

const unanswered = (): KvError.Reason => new KvError.Unavailable({ message: "the store did not answer in time" })

/** Takes all the locks, in the order given. What is taken is given back when the scope closes. */
export const acquireAll = Effect.fnUntraced(function*(
  kv: Kv,
  names: NonEmptyReadonlyArray<string>,
  options: AcquireOptions | undefined,
  scope: Scope.Scope,
  progress: Progress
) {
  const claim = yield* claimIn(kv, names[0], scope)
  // Several are given back together: one after the other would take as many round trips as there are names.
  const forked = names.length === 1 ? Effect.succeed(scope) : Scope.fork(yield* Scope.fork(scope, "parallel"))
  const holds: Array<Hold> = []
  for (const name of names) {
    progress.lastFailure = unanswered
    const { hold, standing } = yield* enter(kv, name, options, yield* forked, claim)
    holds.push(hold)
    claim.latest = hold.logged
    progress.token = hold.place.createRevision
    progress.lastFailure = () => hold.session.lastFailureUnsafe()
    if (standing._tag !== "First") {
      yield* Effect.raceFirst(awaitTurn(kv, hold, standing, claim, progress), Deferred.await(claim.lost))
    }
    yield* mustBeHeld(holds, claim)
  }
  return yield* toLock(kv, holds, claim)
})

/** Takes the lock if no one holds it or waits for it. */
export const tryAcquire = Effect.fnUntraced(function*(
  kv: Kv,
  name: string,
  options: AcquireOptions | undefined,
  scope: Scope.Scope
) {
  const claim = yield* claimIn(kv, name, scope)
  const entered = yield* enterIfFree(kv, name, options, scope, claim)
  if (entered === undefined) return Option.none<Lock>()
  claim.latest = entered.logged
  yield* mustBeHeld([entered], claim)
  return Option.some(yield* toLock(kv, [entered], claim))
})

/** Whether the store, when it was asked to remove a key, found one missing that was thought to be held. */
export const wasMissing = (lock: Lock): boolean => lock instanceof HeldLock && lock.wasMissing()

/** The `Kv` that the lock was acquired with; `undefined` if it was not acquired here. */
export const kvOf = (lock: Lock): Kv | undefined => lock instanceof HeldLock ? lock.kv : undefined

/** The lock's loss, said by who found it out: a fenced write that was refused, or a release that found nothing. */
export const lose = (lock: Lock, how: string): Effect.Effect<LockLost> =>
  Effect.suspend(() =>
    lock instanceof HeldLock
      ? lock.lose(how)
      : Effect.succeed(new LockLost({ lock: lock.name, token: lock.token, how }))
  )

/** Every release completes `loss`, which is rarely awaited: so the error, which is costly, is made when it is asked for. */
const tell = (claim: Claim, { lock, token }: LockOfSession, how: string): boolean => {
  const error = Effect.failSync(() => new LockLost({ lock, token, how }))
  const isFirst = Deferred.doneUnsafe(claim.loss, error)
  Deferred.doneUnsafe(claim.lost, error)
  if (how !== givenBack) claim.leave()
  return isFirst
}

/** A claim to locks, until the scope closes. It is told when the client closes. */
const claimIn = (kv: Kv, name: string, scope: Scope.Scope): Effect.Effect<Claim> =>
  Effect.suspend(() => {
    const claim: Claim = {
      loss: Deferred.makeUnsafe(),
      lost: Deferred.makeUnsafe(),
      isListenedTo: false,
      latest: { lock: name, token: 0n },
      isHeld: false,
      leave: () => {}
    }
    claim.leave = internals.of(kv).sessions.holders.add({
      onClosing: () => {
        const { lock, token } = claim.latest
        Deferred.doneUnsafe(claim.lost, Effect.failSync(() => new LockLost({ lock, token, how: clientCloses })))
      },
      isAwaited: (isClosing) => claim.isHeld && (claim.isListenedTo || isClosing(scope))
    })
    // The first to be added, so it runs when the keys have been removed.
    return Effect.as(Scope.addFinalizer(scope, Effect.sync(() => claim.leave())), claim)
  })

const givenBack = "it was given back"
const keyDeleted = "its key was deleted"
const clientCloses = "its client is being closed"

/** Enters the queue; leaves it when the scope closes. */
const enter = (
  kv: Kv,
  name: string,
  options: AcquireOptions | undefined,
  scope: Scope.Scope,
  claim: Claim
) =>
  useSession.withLive(internals.of(kv).sessions, options?.ttl, scope, (session) =>
    Effect.gen(function*() {
      while (true) {
        const key = claimKey(kv, name, session)
        const write = lockQueue.enter(internals.of(kv).unfenced, name, key, session.lease, options?.description ?? "")
        const entered = yield* put(kv, name, session, key, write, options, scope, claim)
        // Somebody else's key is there, whatever it is. It stays claimed, so the next try is under another.
        if (entered !== undefined) return { hold: entered.hold, standing: entered.answer.standing }
      }
    }))

/** Enters the queue if no one is in it; `undefined` if someone is, and then nothing is left. */
const enterIfFree = (
  kv: Kv,
  name: string,
  options: AcquireOptions | undefined,
  scope: Scope.Scope,
  claim: Claim
): Effect.Effect<Hold | undefined, KvError.KvError> =>
  useSession.withLive(internals.of(kv).sessions, options?.ttl, scope, (session) =>
    Effect.gen(function*() {
      const key = claimKey(kv, name, session)
      const write = lockQueue.enterIfFree(
        internals.of(kv).unfenced,
        name,
        key,
        session.lease,
        options?.description ?? ""
      )
      const entered = yield* put(kv, name, session, key, write, options, scope, claim)
      if (entered === undefined) session.unclaim(internals.of(kv).origin.prefix + key)
      return entered?.hold
    }))

/**
 * A key for a contender, claimed as the key of the client's root that it is: two views of one client may have different
 * names for it, and on one lease only the claim tells whose key it is.
 */
const claimKey = (kv: Kv, name: string, session: SharedSession): string => {
  const { prefix } = internals.of(kv).origin
  return session.claim(prefix + lockQueue.keyOf(name, session.lease)).slice(prefix.length)
}

/** Writes a contender's key; `undefined` if nothing was written. */
const put = <A extends { readonly place: lockQueue.Place }>(
  kv: Kv,
  name: string,
  session: SharedSession,
  key: string,
  write: Effect.Effect<A | undefined, KvError.KvError>,
  options: AcquireOptions | undefined,
  scope: Scope.Scope,
  claim: Claim
): Effect.Effect<{ readonly hold: Hold; readonly answer: A } | undefined, KvError.KvError> =>
  Effect.gen(function*() {
    const logged = { lock: name, token: 0n }
    let forget = () => {}
    const kept: { hold?: Hold } = {}
    const { answer, attachment } = yield* attachedKey.write({
      backend: internals.of(kv).unfenced,
      get session() {
        return kept.hold?.session ?? session
      },
      key,
      write,
      identify: (entered) => entered && Compare.createRevision(key, "=", entered.place.createRevision),
      onRemove: () => {
        forget()
        tell(claim, logged, givenBack)
      },
      onGone: () => session.unclaim(internals.of(kv).origin.prefix + key)
    }, scope)
    if (answer === undefined) return undefined
    logged.token = answer.place.createRevision
    const hold: Hold = { name, session, logged, place: answer.place, attachment }
    kept.hold = hold
    // Where the scope has closed meanwhile it is given back.
    if (attachment.removal === "None") forget = yield* guard(kv, hold, options, claim, scope)
    return { hold, answer }
  })

/** Has the loss told as soon as the session is lost or the key is gone, until that is called off or the scope is closed. */
const guard = (
  kv: Kv,
  hold: Hold,
  options: AcquireOptions | undefined,
  claim: Claim,
  scope: Scope.Scope
): Effect.Effect<() => void> =>
  Effect.contextWith((context: Context.Context<never>) => {
    const { createRevision, key } = hold.place
    let replaced = ""
    const untilDeleted = Effect.suspend(() =>
      deletion.await(
        internals.of(kv).unfenced,
        key,
        createRevision,
        (entry) => entry.createRevision === createRevision,
        (reason) => (replaced = `${reason}; `)
      )
    )
    const deleted = Effect.suspend(() => loseAlone(hold, claim, `${replaced}${keyDeleted}`))
    const forgetKey = hold.session.keyWatchTimer(() =>
      Effect.runForkWith(context)(Effect.forkIn(Effect.andThen(untilDeleted, deleted), scope))
    )
    let forgetSession = () => {}
    let isMoving = false
    const guardSession = () => {
      const { session } = hold
      session.locks.add(hold.logged)
      const forgetLoss = session.onLost((how) => tell(claim, hold.logged, `${replaced}${how}`))
      const forgetDenial = session.onDenied(() => {
        if (isMoving) return
        isMoving = true
        Effect.runForkWith(context)(Effect.forkIn(Effect.ensuring(moved, Effect.sync(() => isMoving = false)), scope))
      })
      forgetSession = () => {
        forgetLoss()
        forgetDenial()
        notOnSession(hold)
      }
    }
    const moved = Effect.flatMap(moveFrom(kv, hold, options, scope), (session) =>
      Effect.sync(() => {
        if (session === undefined || hold.attachment.removal !== "None") return
        forgetSession()
        hold.session = session
        guardSession()
      }))
    guardSession()
    return Effect.succeed(() => {
      forgetKey()
      forgetSession()
    })
  })

/**
 * Attaches the key to another session, and gives that: the store denies the renewal of the one it stands on, as etcd does if
 * the user may no longer write some other key of its lease. Its create revision, the token, stays the same.
 */
const moveFrom = Effect.fnUntraced(
  function*(kv: Kv, hold: Hold, options: AcquireOptions | undefined, scope: Scope.Scope) {
    yield* hold.session.retire
    const session = yield* internals.of(kv).sessions.get(options?.ttl ?? Session.defaultTtl, scope)
    const { createRevision, key } = hold.place
    const put = Op.put(key, options?.description ?? "", { lease: session.lease })
    const move = Op.txn({ if: [Compare.createRevision(key, "=", createRevision)], then: [put] })
    const response = yield* execute(internals.of(kv).unfenced, move)
    return response.succeeded ? session : undefined
  },
  // It is tried again at the next renewal that is denied.
  Effect.provideService(Deadline.Deadline, Duration.seconds(1)),
  Effect.catch(() => Effect.undefined)
)

/** The lock stands on its session no more. On one that is lost it stays, to be named in the log. */
const notOnSession = ({ logged, session }: Hold): void => {
  if (session.isAliveUnsafe()) session.locks.delete(logged)
}

/** How long the store is given to say whether a session is lost together with its lock. */
const verifyMillis = 1000

/**
 * Tells that a lock is lost whose session may live, and logs it. If it turns out that the session was lost, and this is how
 * it showed, the session's warning is the one.
 */
const loseAlone = (hold: Hold, claim: Claim, how: string): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { logged, session } = hold
    if (!tell(claim, logged, how)) return Effect.void
    const sessionIsLost = Effect.raceFirst(
      Effect.map(session.lost, (how) => !renewal.isOrderly(how)),
      Effect.delay(Effect.succeed(false), verifyMillis)
    )
    session.locks.add(logged)
    return session.verify.pipe(
      Effect.andThen(sessionIsLost),
      Effect.flatMap((isLost) => isLost ? Effect.void : lossLog.lockLost(logged, how)),
      Effect.ensuring(Effect.sync(() => notOnSession(hold))),
      // Detached, since who is told of the loss soon closes the scope.
      Effect.forkDetach({ startImmediately: true }),
      Effect.asVoid
    )
    // The loss interrupts the body of the lock, and with it the fiber of the fenced write that found the loss, which is this one.
  }).pipe(Effect.uninterruptible)

const awaitTurn = (
  kv: Kv,
  hold: Hold,
  entered: lockQueue.Standing,
  claim: Claim,
  progress: Progress
): Effect.Effect<void, KvError.KvError | LockLost> => {
  let failure: KvError.Reason | undefined
  progress.lastFailure = () => failure ?? hold.session.lastFailureUnsafe()
  const observer: lockQueue.Observer = {
    onStanding: (standing) => {
      failure = undefined
      if (standing._tag === "Behind") Deferred.doneUnsafe(progress.isBehind, Effect.void)
    },
    onFailure: (reason) => {
      failure = reason
    }
  }
  return Effect.flatMap(
    lockQueue.awaitTurn(internals.of(kv).unfenced, hold.name, hold.place, entered, observer),
    (standing) =>
      standing === "First"
        ? Effect.void
        : Effect.andThen(loseAlone(hold, claim, keyDeleted), Deferred.await(claim.loss))
  )
}

/** The last look before a lock is given out: nothing is known to be lost, and the sessions still have time left. */
const mustBeHeld = (holds: ReadonlyArray<Hold>, claim: Claim): Effect.Effect<void, LockLost> =>
  Effect.suspend(() => {
    for (const { logged, session } of holds) {
      if (!session.isAliveUnsafe()) tell(claim, logged, "its session ended while it waited")
    }
    return Deferred.isDoneUnsafe(claim.lost) ? Deferred.await(claim.lost) : Effect.void
  })

class HeldLock implements Lock {
  readonly name: string
  readonly key: string
  readonly token: bigint
  readonly all: Lock["all"]
  readonly isHeld: Lock["isHeld"]
  readonly isHeldUnsafe: Lock["isHeldUnsafe"]
  readonly lost: Lock["lost"]
  readonly heldFor: Lock["heldFor"]
  readonly #kv: Kv
  readonly #holds: ReadonlyArray<Hold>
  readonly #claim: Claim

  constructor(kv: Kv, holds: ReadonlyArray<Hold>, claim: Claim, clock: Clock.Clock) {
    const since = clock.monotonicTimeNanosUnsafe()
    this.all = holds.map(({ name, place }) => ({ name, key: place.key, token: place.createRevision }))
    const last = this.all[this.all.length - 1]!
    this.name = last.name
    this.key = last.key
    this.token = last.token
    this.isHeldUnsafe = () => !Deferred.isDoneUnsafe(claim.loss) && holds.every((hold) => hold.session.isAliveUnsafe())
    this.isHeld = Effect.sync(this.isHeldUnsafe)
    this.lost = Effect.suspend(() => {
      claim.isListenedTo = true
      // What was done under the lock may have been written before.
      return Effect.mapError(Deferred.await(claim.lost), unknownOutcome)
    })
    this.heldFor = Effect.sync(() => Duration.nanos(clock.monotonicTimeNanosUnsafe() - since))
    this.#kv = kv
    this.#holds = holds
    this.#claim = claim
  }

  get kv(): Kv {
    return this.#kv
  }

  wasMissing(): boolean {
    return this.#holds.some((hold) => hold.attachment.removal === "Missing")
  }

  lose(how: string): Effect.Effect<LockLost> {
    const last = this.#holds[this.#holds.length - 1]!
    return Effect.andThen(loseAlone(last, this.#claim, how), Effect.flip(Deferred.await(this.#claim.loss)))
  }

  toJSON(): unknown {
    return {
      name: this.name,
      key: this.key,
      token: `${this.token}`,
      all: this.all.map((each) => ({ ...each, token: `${each.token}` })),
      isHeld: this.isHeldUnsafe()
    }
  }
}

/** The loss as it ends what was done under the lock. */
export const unknownOutcome = ({ how, lock, token }: LockLost): LockLost =>
  new LockLost({ lock, token, how, outcome: "Unknown" })

const toLock = (kv: Kv, holds: ReadonlyArray<Hold>, claim: Claim): Effect.Effect<Lock> =>
  Effect.map(Clock.Clock, (clock) => {
    claim.isHeld = true
    return new HeldLock(kv, holds, claim, clock)
  })
