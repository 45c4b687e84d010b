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
import type * as Scope from "effect/Scope"
import * as Compare from "../Compare.ts"
import type { AcquireOptions, Lock } from "../DistLock.ts"
import type { Kv } from "../Kv.ts"
import type * as KvError from "../KvError.ts"
import { LockLost } from "../LockError.ts"
import * as attachedKey from "./attachedKey.ts"
import * as deletion from "./deletion.ts"
import * as lockQueue from "./lockQueue.ts"
import type { SharedSession } from "./sessionPool.ts"
import * as sessionPool from "./sessionPool.ts"

/** One of the locks that are taken as one: held, or waited for. */
interface Hold {
  readonly name: string
  readonly session: SharedSession
  readonly place: lockQueue.Place
  readonly attachment: attachedKey.Attachment
}

/** Fails with the first loss of one of the locks that are taken as one. */
type Loss = Deferred.Deferred<never, LockLost>

/** What an attempt has come to, for a time-out to tell. */
export interface Progress {
  token: bigint
}

/** Takes all the locks, in the order given. What is taken is given back when the scope closes. */
export const acquireAll = Effect.fnUntraced(function*(
  kv: Kv,
  names: NonEmptyReadonlyArray<string>,
  options: AcquireOptions | undefined,
  scope: Scope.Scope,
  progress: Progress
) {
  const loss: Loss = Deferred.makeUnsafe()
  const holds: Array<Hold> = []
  for (const name of names) {
    const { hold, standing } = yield* enter(kv, name, options, scope, loss)
    holds.push(hold)
    progress.token = hold.place.createRevision
    if (standing._tag !== "First") yield* Effect.raceFirst(awaitTurn(kv, hold, standing, loss), Deferred.await(loss))
    yield* mustBeHeld(holds, loss)
  }
  return yield* toLock(kv, holds, loss)
})

/** Takes the lock if there is no one ahead. `none`: there was; the scope is to be closed. */
export const tryAcquire = Effect.fnUntraced(function*(
  kv: Kv,
  name: string,
  options: AcquireOptions | undefined,
  scope: Scope.Scope
) {
  const loss: Loss = Deferred.makeUnsafe()
  const { hold, standing: entered } = yield* enter(kv, name, options, scope, loss)
  const standing = entered._tag === "Unclear" ? yield* lockQueue.look(kv.bookkeeping, name, hold.place) : entered
  if (standing._tag === "Behind") return Option.none<Lock>()
  if (standing._tag === "Gone") tellLossOf(hold, loss, keyDeleted)
  yield* mustBeHeld([hold], loss)
  return Option.some(yield* toLock(kv, [hold], loss))
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

/** Every release tells, and few are there to hear it: so the error, which is costly, is made when it is asked for. */
const tell = (loss: Loss, lock: string, token: bigint, how: string): boolean =>
  Deferred.doneUnsafe(loss, Effect.failSync(() => new LockLost({ lock, token, how })))

/** Enters the queue; leaves it when the scope closes. */
const enter = (
  kv: Kv,
  name: string,
  options: AcquireOptions | undefined,
  scope: Scope.Scope,
  loss: Loss
) =>
  sessionPool.withLive(kv.sessions, options?.ttl, scope, (session) =>
    Effect.gen(function*() {
      while (true) {
        const key = session.claim(lockQueue.keyOf(name, session.lease))
        let token = 0n
        let forget = () => {}
        const { answer, attachment } = yield* attachedKey.write({
          backend: kv.bookkeeping,
          session,
          key,
          write: lockQueue.enter(kv.bookkeeping, name, key, session.lease, options?.description ?? ""),
          identify: (entered) => entered && Compare.createRevision(key, "=", entered.place.createRevision),
          onRemove: () => {
            forget()
            tell(loss, name, token, givenBack)
          },
          onGone: () => session.unclaim(key)
        }, scope)
        // Somebody else's key is there, whatever it is. It stays claimed, so the next try is under another.
        if (answer === undefined) continue
        token = answer.place.createRevision
        const hold: Hold = { name, session, place: answer.place, attachment }
        // Where the scope has closed meanwhile it is given back.
        if (attachment.removal === "None") forget = yield* guard(kv, hold, loss, scope)
        return { hold, standing: answer.standing }
      }
    }))

const givenBack = "it was given back"
const keyDeleted = "its key was deleted"

const tellLossOf = (hold: Hold, loss: Loss, how: string): boolean =>
  tell(loss, hold.name, hold.place.createRevision, how)

/** Has the loss told as soon as the session is lost or the key is gone, until that is called off or the scope is closed. */
const guard = (kv: Kv, hold: Hold, loss: Loss, scope: Scope.Scope): Effect.Effect<() => void> =>
  Effect.contextWith((context: Context.Context<never>) => {
    const { createRevision, key } = hold.place
    let replaced = ""
    const tellLoss = (how: string) => tellLossOf(hold, loss, `${replaced}${how}`)
    const untilDeleted = Effect.suspend(() =>
      deletion.await(
        kv.bookkeeping,
        key,
        createRevision,
        (entry) => entry.createRevision === createRevision,
        (reason) => (replaced = `${reason}; `)
      )
    )
    const deleted = Effect.suspend(() => {
      tellLoss(keyDeleted)
      return hold.session.verify
    })
    const forgetKey = hold.session.afterAWhile(() =>
      Effect.runForkWith(context)(Effect.forkIn(Effect.andThen(untilDeleted, deleted), scope))
    )
    const forgetSession = hold.session.onLost(tellLoss)
    return Effect.succeed(() => {
      forgetKey()
      forgetSession()
    })
  })

const awaitTurn = (
  kv: Kv,
  hold: Hold,
  entered: lockQueue.Standing,
  loss: Loss
): Effect.Effect<void, KvError.KvError | LockLost> =>
  Effect.flatMap(lockQueue.awaitTurn(kv.bookkeeping, hold.name, hold.place, entered), (standing) => {
    if (standing === "First") return Effect.void
    tellLossOf(hold, loss, keyDeleted)
    return Deferred.await(loss)
  })

/** The last look before a lock is given out: nothing is known to be lost, and the sessions still have time left. */
const mustBeHeld = (holds: ReadonlyArray<Hold>, loss: Loss): Effect.Effect<void, LockLost> =>
  Effect.suspend(() => {
    for (const hold of holds) {
      if (!hold.session.isAliveUnsafe()) tellLossOf(hold, loss, "its session ended while it waited")
    }
    return Deferred.isDoneUnsafe(loss) ? Deferred.await(loss) : Effect.void
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
  readonly #loss: Loss

  constructor(kv: Kv, holds: ReadonlyArray<Hold>, loss: Loss, clock: Clock.Clock) {
    const since = clock.monotonicTimeNanosUnsafe()
    this.all = holds.map(({ name, place }) => ({ name, key: place.key, token: place.createRevision }))
    const last = this.all[this.all.length - 1]!
    this.name = last.name
    this.key = last.key
    this.token = last.token
    this.isHeldUnsafe = () => !Deferred.isDoneUnsafe(loss) && holds.every((hold) => hold.session.isAliveUnsafe())
    this.isHeld = Effect.sync(this.isHeldUnsafe)
    // What was done under the lock may have been written before.
    this.lost = Effect.mapError(Deferred.await(loss), unknownOutcome)
    this.heldFor = Effect.sync(() => Duration.nanos(clock.monotonicTimeNanosUnsafe() - since))
    this.#kv = kv
    this.#holds = holds
    this.#loss = loss
  }

  get kv(): Kv {
    return this.#kv
  }

  wasMissing(): boolean {
    return this.#holds.some((hold) => hold.attachment.removal === "Missing")
  }

  lose(how: string): Effect.Effect<LockLost> {
    tell(this.#loss, this.name, this.token, how)
    return Effect.flip(Deferred.await(this.#loss))
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

const toLock = (kv: Kv, holds: ReadonlyArray<Hold>, loss: Loss): Effect.Effect<Lock> =>
  Effect.map(Clock.Clock, (clock) => new HeldLock(kv, holds, loss, clock))
