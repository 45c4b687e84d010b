/**
 * The run of an effect under a held lock. A loss of the lock interrupts the effect, and the run fails with the loss.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as KvError from "../../values/KvError.ts"
import { LockHoldExceeded, LockLost } from "../../values/LockError.ts"
import * as heldLock from "./heldLock.ts"
import type { MultiLock } from "./model.ts"

export interface Options<E2> {
  /** Ends the effect when it fails. */
  readonly limit: Effect.Effect<never, E2>
  readonly restore: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** Run when the effect has ended. */
  readonly end: (exit: Exit.Exit<unknown, unknown>) => Effect.Effect<void>
}

/**
 * Runs the effect until it ends, the limit fails or the lock is lost. The caller must be uninterruptible: only the effect
 * is interrupted.
 */
export const run = <A, E, R, E2>(
  lock: heldLock.HeldLock,
  effect: Effect.Effect<A, E, R>,
  { end, limit, restore }: Options<E2>
): Effect.Effect<A, E | E2 | LockLost, R> => {
  let own: Exit.Exit<A, E> | undefined
  const observed = Effect.onExitPrimitive(effect, (exit) => {
    own = exit
    return undefined
  })
  const limits = limit === Effect.never ? lock.lost : Effect.raceFirst(lock.lost, limit)
  const ended = (exit: Exit.Exit<A, E | E2 | LockLost>): Effect.Effect<A, E | E2 | LockLost> =>
    lock.isHeldUnsafe()
      ? released(exit, undefined)
      : Effect.flatMap(lock.lose(notHeldAtTheEnd), (lost) => released(exit, lost))
  const released = (
    exit: Exit.Exit<A, E | E2 | LockLost>,
    lostBefore: LockLost | undefined
  ): Effect.Effect<A, E | E2 | LockLost> =>
    Effect.flatMap(end(exit), () => {
      // A loss that only the release found turns a success into a failure, and leaves a failure as it is.
      const lost = lostBefore ?? (Exit.isSuccess(exit) && lock.wasMissing ? lossAtTheEnd(lock) : undefined)
      return lost === undefined ? exit : Effect.failCause(Cause.fromReasons<E | E2 | LockLost>([
        Cause.makeFailReason(heldLock.unknownOutcome(lost)),
        ...ownReasons(lock, [own, exit])
      ]))
    })
  return Effect.matchCauseEffect(restore(Effect.raceFirst(observed, limits)), {
    onSuccess: (value) => ended(Exit.succeed(value)),
    onFailure: (cause) => ended(Exit.failCause(cause))
  })
}

const notHeldAtTheEnd = "it was not held any more when its work was done"

const lossAtTheEnd = (lock: MultiLock): LockLost => new LockLost({ ...heldLock.namesOf(lock), reason: notHeldAtTheEnd })

/** The failures besides the lock's loss. Whether the effect was also interrupted only shows which fiber was faster. */
const ownReasons = <E>(
  lock: MultiLock,
  exits: ReadonlyArray<Exit.Exit<unknown, E> | undefined>
): ReadonlyArray<Cause.Reason<E>> => {
  const reasons = exits.flatMap((exit) => exit !== undefined && Exit.isFailure(exit) ? exit.cause.reasons : [])
  return [...new Set(reasons)].filter((reason) => !Cause.isInterruptReason(reason) && !isLossOf(lock, reason))
}

/** Whether the reason is the lock's loss: awaited, or found by a rejected write, even if that became a defect. */
const isLossOf = (lock: MultiLock, reason: Cause.Fail<unknown> | Cause.Die): boolean => {
  const failure = Cause.isFailReason(reason) ? reason.error : reason.defect
  const loss = KvError.isKvError(failure) ? failure.reason : failure
  return loss instanceof LockLost && lock.parts.some(({ token }) => token === loss.token)
}

/** Fails when the lock has been held for that long. */
export const holdExceeded = (lock: MultiLock, maxHold: Duration.Input): Effect.Effect<never, LockHoldExceeded> =>
  Effect.flatMap(Effect.sleep(maxHold), () =>
    Effect.fail(
      new LockHoldExceeded({
        ...heldLock.namesOf(lock),
        maxHoldMillis: Duration.toMillis(Duration.fromInputUnsafe(maxHold))
      })
    ))
