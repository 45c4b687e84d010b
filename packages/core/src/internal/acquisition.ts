/**
 * Taking a lock and giving it back: one contender's way through the queue.
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Clock from "effect/Clock"
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

/** What is known of a lock beyond its public face. */
interface Internals {
  readonly holds: ReadonlyArray<Hold>
  readonly loss: Loss
}

const internals = new WeakMap<Lock, Internals>()

/** Takes all the locks, in the order given. What is taken is given back when the scope closes. */
export const acquireAll = Effect.fnUntraced(function*(
  kv: Kv,
  names: NonEmptyReadonlyArray<string>,
  options: AcquireOptions | undefined,
  scope: Scope.Scope,
  progress: Progress
) {
  const loss: Loss = yield* Deferred.make<never, LockLost>()
  const holds: Array<Hold> = []
  for (const name of names) {
    const { hold, standing } = yield* enter(kv, name, options, scope, loss)
    holds.push(hold)
    progress.token = hold.place.createRevision
    yield* guard(kv, hold, loss, scope)
    if (standing._tag !== "First") yield* Effect.raceFirst(awaitTurn(kv, hold, standing, loss), Deferred.await(loss))
    yield* mustBeHeld(holds, loss)
  }
  return yield* toLock(holds, loss)
})

/** Takes the lock if there is no one ahead. `none`: there was; the scope is to be closed. */
export const tryAcquire = Effect.fnUntraced(function*(
  kv: Kv,
  name: string,
  options: AcquireOptions | undefined,
  scope: Scope.Scope
) {
  const loss: Loss = yield* Deferred.make<never, LockLost>()
  const { hold, standing: entered } = yield* enter(kv, name, options, scope, loss)
  const standing = entered._tag === "Unclear" ? yield* lockQueue.look(kv.bookkeeping, name, hold.place) : entered
  if (standing._tag === "Behind") return Option.none<Lock>()
  if (standing._tag === "Gone") yield* tellLossOf(hold, loss, keyDeleted)
  yield* guard(kv, hold, loss, scope)
  yield* mustBeHeld([hold], loss)
  return Option.some(yield* toLock([hold], loss))
})

/** Whether the store, when it was asked to remove a key, found one missing that was thought to be held. */
export const wasMissing = (lock: Lock): boolean =>
  internals.get(lock)?.holds.some((hold) => hold.attachment.removal === "Missing") ?? false

/** The lock's loss, said by who found it out: a fenced write that was refused, or a release that found nothing. */
export const lose = (lock: Lock, how: string): Effect.Effect<LockLost> =>
  Effect.suspend(() => {
    const loss = internals.get(lock)?.loss
    return loss === undefined
      ? Effect.succeed(new LockLost({ lock: lock.name, token: lock.token, how }))
      : Effect.andThen(tell(loss, lock.name, lock.token, how), Effect.flip(Deferred.await(loss)))
  })

/** Every release tells, and few are there to hear it: so the error, which is costly, is made when it is asked for. */
const tell = (loss: Loss, lock: string, token: bigint, how: string): Effect.Effect<boolean> =>
  Deferred.completeWith(loss, Effect.failSync(() => new LockLost({ lock, token, how })))

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
        const { answer, attachment } = yield* attachedKey.write({
          backend: kv.bookkeeping,
          session,
          key,
          write: lockQueue.enter(kv.bookkeeping, name, key, session.lease, options?.description ?? ""),
          identify: (entered) => entered && Compare.createRevision(key, "=", entered.place.createRevision),
          onRemove: Effect.suspend(() => tell(loss, name, token, givenBack)),
          onGone: () => session.unclaim(key)
        }, scope)
        // Somebody else's key is there, whatever it is. It stays claimed, so the next try is under another.
        if (answer === undefined) continue
        token = answer.place.createRevision
        const hold: Hold = { name, session, place: answer.place, attachment }
        return { hold, standing: answer.standing }
      }
    }))

const givenBack = "it was given back"
const keyDeleted = "its key was deleted"

const tellLossOf = (hold: Hold, loss: Loss, how: string): Effect.Effect<boolean> =>
  tell(loss, hold.name, hold.place.createRevision, how)

/** Has the loss told as soon as the session is lost or the key is gone. */
const guard = Effect.fnUntraced(function*(kv: Kv, hold: Hold, loss: Loss, scope: Scope.Scope) {
  const { createRevision, key } = hold.place
  const lost = Effect.flatMap(hold.session.lost, (how) => tellLossOf(hold, loss, how))
  yield* Effect.forkIn(lost, scope, { startImmediately: true })
  const deleted = deletion.await(
    kv.bookkeeping,
    key,
    createRevision,
    (entry) => entry.createRevision === createRevision
  )
    .pipe(
      Effect.delay(watchAfter),
      Effect.andThen(tellLossOf(hold, loss, keyDeleted)),
      Effect.andThen(hold.session.verify)
    )
  yield* Effect.forkIn(deleted, scope, { startImmediately: true })
})

/** What is over sooner is not worth a watch. */
const watchAfter = Duration.millis(200)

const awaitTurn = (
  kv: Kv,
  hold: Hold,
  entered: lockQueue.Standing,
  loss: Loss
): Effect.Effect<void, KvError.KvError | LockLost> =>
  Effect.flatMap(lockQueue.awaitTurn(kv.bookkeeping, hold.name, hold.place, entered), (standing) =>
    standing === "First"
      ? Effect.void
      : Effect.andThen(tellLossOf(hold, loss, keyDeleted), Deferred.await(loss)))

/** The last look before a lock is given out: nothing is known to be lost, and the sessions still have time left. */
const mustBeHeld = Effect.fnUntraced(function*(holds: ReadonlyArray<Hold>, loss: Loss) {
  for (const hold of holds) {
    if (!(yield* hold.session.isAlive)) yield* tellLossOf(hold, loss, "its session ended while it waited")
  }
  if (Deferred.isDoneUnsafe(loss)) yield* Deferred.await(loss)
})

const toLock = Effect.fnUntraced(function*(holds: ReadonlyArray<Hold>, loss: Loss) {
  const clock = yield* Clock.Clock
  const since = clock.monotonicTimeNanosUnsafe()
  const all = holds.map(({ name, place }) => ({ name, key: place.key, token: place.createRevision }))
  const lock: Lock = {
    ...all[all.length - 1]!,
    all,
    isHeld: Effect.map(
      Effect.forEach(holds, (hold) => hold.session.isAlive),
      (alive) => !Deferred.isDoneUnsafe(loss) && alive.every((alive) => alive)
    ),
    lost: Deferred.await(loss),
    heldFor: Effect.sync(() => Duration.nanos(clock.monotonicTimeNanosUnsafe() - since))
  }
  internals.set(lock, { holds, loss })
  return lock
})
