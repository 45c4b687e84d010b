/**
 * A held slot: its key in the store, the notice of its loss, and the fence of writes under it.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type * as Tracer from "effect/Tracer"
import { execute } from "../../backend/KvBackend.ts"
import * as Fence from "../../service/Fence.ts"
import type { Kv } from "../../service/KvService.ts"
import * as Compare from "../../values/Compare.ts"
import * as KvError from "../../values/KvError.ts"
import { LockLost } from "../../values/LockError.ts"
import * as Op from "../../values/Op.ts"
import { inChildScope } from "../childScope.ts"
import * as internals from "../kv/internals.ts"
import type { LockMetrics } from "../metrics/client.ts"
import type { HoldSpan } from "../queue/holdSpan.ts"
import * as deletion from "../session/awaitDeletion.ts"
import * as leasedKey from "../session/leasedKey.ts"
import * as lossLog from "../session/lossLog.ts"
import * as renewal from "../session/renewal.ts"
import type { SharedSession } from "../session/sharedSession.ts"
import * as spans from "../tracing/spans.ts"
import type { Slot } from "./model.ts"
import * as slotKey from "./slotKey.ts"

/** A slot to take: which one, and for how long it cools down afterwards, in seconds. */
export interface Request {
  readonly kv: Kv
  readonly name: string
  readonly index: number
  readonly description: string
  readonly coolDown: number
  /** The metrics of the whole acquisition, of which this may be one of several attempts. */
  readonly metrics: LockMetrics
}

/** A slot as this library knows it. */
export class HeldSlot implements Slot {
  readonly name: string
  readonly index: number
  readonly key: string
  readonly token: bigint
  readonly isHeld: Slot["isHeld"]
  readonly isHeldUnsafe: Slot["isHeldUnsafe"]
  readonly lost: Slot["lost"]
  readonly #request: Request
  readonly #session: SharedSession
  readonly #loss: Loss

  constructor(request: Request, key: string, token: bigint, session: SharedSession, loss: Loss) {
    this.name = request.name
    this.index = request.index
    this.key = key
    this.token = token
    this.isHeldUnsafe = () => !Deferred.isDoneUnsafe(loss.deferred) && session.isAliveUnsafe()
    this.isHeld = Effect.sync(this.isHeldUnsafe)
    // `Unknown`, because work under the slot may have written before the loss.
    this.lost = Effect.suspend(() => {
      loss.isAwaited = true
      return Effect.mapError(
        Deferred.await(loss.deferred),
        ({ lock, reason, token }) => new LockLost({ kind: "slot", lock, token, reason, outcome: "Unknown" })
      )
    })
    this.#request = request
    this.#session = session
    this.#loss = loss
  }

  /** The fence of writes in the client that the slot was acquired with. */
  get fence(): Fence.Fence {
    const { kv } = this.#request
    return Fence.make(kv, {
      conditions: [Compare.createRevision(this.key, "=", this.token)],
      isHeldUnsafe: this.isHeldUnsafe,
      notHeld: Effect.flatMap(Effect.suspend(() => this.lose(this.#session.outOfTimeUnsafe())), KvError.fail),
      rejected: Effect.flatMap(this.lose(rejectedWrite), KvError.fail)
    })
  }

  /** The only token, by the name that it has for several locks that are held as one. */
  get largestToken(): bigint {
    return this.token
  }

  /** The span of the hold; `undefined` if no tracer is installed. */
  get span(): Tracer.Span | undefined {
    return this.#loss.span?.span
  }

  /** Records the hold in a span. A slot that was lost or released meanwhile ends it at once. */
  trace(span: HoldSpan): void {
    this.#loss.span = span
    if (Deferred.isDoneUnsafe(this.#loss.deferred)) span.released()
  }

  /** Records a loss. Returns it, or an earlier one. */
  lose(reason: string): Effect.Effect<LockLost> {
    return Effect.andThen(this.#loss.lose(this.token, reason), Effect.flip(Deferred.await(this.#loss.deferred)))
  }

  toJSON(): unknown {
    return {
      name: this.name,
      index: this.index,
      key: this.key,
      token: `${this.token}`,
      isHeld: this.isHeldUnsafe()
    }
  }
}

const rejectedWrite = "a fenced write was rejected because the slot is not held any more"

interface Loss {
  readonly deferred: Deferred.Deferred<never, LockLost>
  isAwaited: boolean
  /** The span of the hold; `undefined` while it is not held, and without a tracer. */
  span: HoldSpan | undefined
  readonly lose: (token: bigint, reason: string) => Effect.Effect<void>
}

const keyDeleted = "its key was deleted"

const makeLoss = (key: string, metrics: LockMetrics): Loss => {
  const deferred = Deferred.makeUnsafe<never, LockLost>()
  const loss: Loss = {
    deferred,
    isAwaited: false,
    span: undefined,
    lose: (token, reason) =>
      Effect.suspend(() => {
        metrics.lost(renewal.causeOf(reason) ?? (reason === keyDeleted ? "KeyDeleted" : "Rejected"))
        const error = new LockLost({ kind: "slot", lock: key, token, reason })
        loss.span?.lost(Exit.fail(error))
        return Deferred.doneUnsafe(deferred, Effect.fail(error))
          ? lossLog.lockLost({ kind: "slot", lock: key, token }, reason)
          : Effect.void
      })
  }
  return loss
}

/** Takes the slot if it is free; `undefined` if it is not. It is released when the scope closes. */
export const take = (
  request: Request,
  session: SharedSession
): Effect.Effect<HeldSlot | undefined, KvError.KvError, Scope.Scope> =>
  inChildScope(
    (scope) => takeIn(request, session, scope),
    (exit) => Exit.isSuccess(exit) && exit.value !== undefined
  )

const takeIn = Effect.fnUntraced(function*(
  request: Request,
  session: SharedSession,
  scope: Scope.Closeable
): Effect.fn.Return<HeldSlot | undefined, KvError.KvError> {
  const { coolDown, description, index, kv, metrics, name } = request
  const { origin, sessions, unfenced } = internals.of(kv)
  const key = slotKey.of(name, index)
  // The removal of a write without a response recognises the key by its lease. So a session puts a slot once at a time.
  const claimed = `slot ${origin.prefix}${key}`
  if (!session.tryClaim(claimed)) {
    yield* session.retire
    return yield* KvError.fail(new KvError.LeaseNotFound({ message: `the lease has a slot ${key} already` }))
  }
  const loss = makeLoss(key, metrics)
  const logged = { kind: "slot" as const, lock: key, token: 0n }
  const doneWith = (reason: string) =>
    Deferred.doneUnsafe(
      loss.deferred,
      Effect.failSync(() => new LockLost({ ...logged, reason }))
    )
  let isHeld = false
  let isTaken = false
  // The first finalizer to be added, so it runs after the key was removed.
  const removeHolder = sessions.holders.add({
    onClosing: () => doneWith("its client is being closed"),
    isAwaited: (isClosing) => isHeld && (loss.isAwaited || isClosing(scope))
  })
  yield* Scope.addFinalizer(
    scope,
    Effect.sync(() => {
      removeHolder()
      if (isTaken) metrics.ended()
      loss.span?.released()
    })
  )
  const { result: token } = yield* leasedKey.write({
    backend: unfenced,
    session,
    key,
    write: Effect.map(
      execute(
        unfenced,
        Op.txn({
          if: [Compare.missing(key), Compare.missing(slotKey.coolingOf(key))],
          then: [Op.put(key, description, { lease: session.lease })]
        })
      ),
      (response): bigint | undefined => response.succeeded ? response.revision : undefined
    ),
    identify: (token: bigint | undefined) => token === undefined ? undefined : Compare.createRevision(key, "=", token),
    withRemoval: coolDown === 0 ? undefined : Effect.map(
      unfenced.leaseGrant({ ttl: coolDown * 1000 }),
      ({ id }) => [Op.put(slotKey.coolingOf(key), "", { lease: id })]
    ),
    onRemove: () => {
      isHeld = false
      doneWith("it was released")
    },
    onGone: () => session.unclaim(claimed)
  }, scope)
  if (token === undefined) {
    session.unclaim(claimed)
    return undefined
  }
  logged.token = token
  isHeld = isTaken = true
  metrics.acquired()
  session.locks.add(logged)
  const stopLoss = session.onLost((reason) => {
    const cause = renewal.causeOf(reason)
    if (cause !== undefined) {
      metrics.lost(cause)
      loss.span?.lost(Exit.fail(new LockLost({ ...logged, reason })))
    }
    doneWith(reason)
  })
  yield* Scope.addFinalizer(
    scope,
    Effect.sync(() => {
      stopLoss()
      if (session.isAliveUnsafe()) session.locks.delete(logged)
    })
  )
  yield* spans.without(deletion.await(unfenced, key, token, ({ createRevision }) => createRevision === token)).pipe(
    Effect.andThen(
      Effect.suspend(() => session.isAliveUnsafe() ? loss.lose(token, keyDeleted) : Effect.void)
    ),
    Effect.forkIn(scope)
  )
  return new HeldSlot(request, key, token, session, loss)
})
