/**
 * A held lock: the public value, with the parts that only this library uses.
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Array from "effect/Array"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Tracer from "effect/Tracer"
import type { Kv } from "../../service/KvService.ts"
import { LockLost } from "../../values/LockError.ts"
import type { Fence } from "../fence/currentFences.ts"
import type { LockOfSession } from "../session/lossLog.ts"
import type { LockKind } from "../values/lockKind.ts"
import type { Claim, Contender } from "./contender.ts"
import * as contender from "./contender.ts"
import type { HoldSpan } from "./holdSpan.ts"
import type { Lock, MultiLock } from "./model.ts"

/** Locks that are held as one. */
export class HeldLock implements MultiLock {
  readonly parts: MultiLock["parts"]
  readonly isHeld: MultiLock["isHeld"]
  readonly isHeldUnsafe: MultiLock["isHeldUnsafe"]
  readonly lost: MultiLock["lost"]
  readonly heldFor: MultiLock["heldFor"]
  #fence: Fence | undefined = undefined
  readonly #contenders: NonEmptyReadonlyArray<Contender>
  readonly #claim: Claim

  constructor(contenders: NonEmptyReadonlyArray<Contender>, claim: Claim) {
    const { clock } = claim
    const since = clock.monotonicTimeNanosUnsafe()
    this.parts = Array.map(contenders, ({ key, logged: { token }, name }) => ({ name, key, token }))
    this.isHeldUnsafe = () =>
      !Deferred.isDoneUnsafe(claim.loss) && contenders.every(({ session }) => session.isAliveUnsafe())
    this.isHeld = Effect.sync(this.isHeldUnsafe)
    this.lost = Effect.suspend(() => {
      claim.isLossAwaited = true
      // `Unknown`, because work under the lock may have written before the loss.
      return Effect.mapError(Deferred.await(claim.lost), unknownOutcome)
    })
    this.heldFor = Effect.sync(() => Duration.nanos(clock.monotonicTimeNanosUnsafe() - since))
    this.#contenders = contenders
    this.#claim = claim
  }

  /** The `Kv` that the lock was acquired with. */
  get kv(): Kv {
    return this.#contenders[0].kv
  }

  /** What the lock is to its user. */
  get kind(): LockKind {
    return this.#claim.latest.kind
  }

  /** The lease that the key of the first lock is attached to. */
  get lease(): bigint {
    return this.#contenders[0].session.lease
  }

  /** The token of the part that was acquired last. */
  get largestToken(): bigint {
    return this.parts.reduce((largest, { token }) => token > largest ? token : largest, 0n)
  }

  /** The span of the hold; `undefined` if no tracer is installed. */
  get span(): Tracer.Span | undefined {
    return this.#claim.span?.span
  }

  /** Records the hold in a span. A lock that was lost or released meanwhile ends it at once. */
  trace(span: HoldSpan): void {
    this.#claim.span = span
    if (Deferred.isDoneUnsafe(this.#claim.loss)) span.released()
  }

  /** Its fence in the client it was acquired with, made on first use: see `lockFence.ts`. */
  fence(make: () => Fence): Fence {
    return this.#fence ??= make()
  }

  /** Whether a release did not find the key of a lock that was thought to be held. */
  get wasMissing(): boolean {
    return this.#contenders.some(({ attachment }) => attachment?.removal === "Missing")
  }

  /** Records the lock's loss, if its time has run out. Returns the loss, or an earlier one. */
  get loseOutOfTime(): Effect.Effect<LockLost> {
    return Effect.suspend(() => {
      const { session } = this.#contenders.find(({ session }) => !session.isAliveUnsafe()) ?? this.#contenders[0]
      return this.lose(session.outOfTimeUnsafe())
    })
  }

  /** Records the lock's loss, which a rejected write or a release has found. Returns the loss, or an earlier one. */
  lose(reason: string): Effect.Effect<LockLost> {
    return Effect.andThen(contender.lose(this.#contenders, reason), Effect.flip(Deferred.await(this.#claim.loss)))
  }

  toJSON(): unknown {
    return { parts: this.parts.map(printed), isHeld: this.isHeldUnsafe() }
  }
}

class HeldSingleLock extends HeldLock implements Lock {
  readonly name: string
  readonly key: string
  readonly token: bigint

  constructor(contenders: NonEmptyReadonlyArray<Contender>, claim: Claim) {
    super(contenders, claim)
    const { key, name, token } = this.parts[0]
    this.name = name
    this.key = key
    this.token = token
  }

  override toJSON(): unknown {
    return { ...printed(this), parts: this.parts.map(printed), isHeld: this.isHeldUnsafe() }
  }
}

const printed = ({ key, name, token }: MultiLock["parts"][number]) => ({ name, key, token: `${token}` })

export const make = (contenders: NonEmptyReadonlyArray<Contender>, claim: Claim): HeldLock => {
  claim.isHeld = true
  claim.metrics?.acquired()
  return contenders.length === 1 ? new HeldSingleLock(contenders, claim) : new HeldLock(contenders, claim)
}

/** The lock of a single queue as a public value. */
export const single = (lock: HeldLock): Lock => {
  // A queue always gives a `HeldSingleLock`: see `make`.
  if (lock instanceof HeldSingleLock) return lock
  throw new Error("several locks are not a single one")
}

/** The lock as this library knows it; `undefined` if the value was not made here. */
export const from = (lock: MultiLock): HeldLock | undefined => lock instanceof HeldLock ? lock : undefined

/** The kind, name and token that stand for all parts in errors: every name, and the largest token. */
export const namesOf = (lock: MultiLock): LockOfSession => ({
  kind: from(lock)?.kind ?? "lock",
  lock: lock.parts.map(({ name }) => name).join(", "),
  token: lock.parts.reduce((largest, { token }) => token > largest ? token : largest, 0n)
})

/** The loss with the outcome `Unknown`, for the failure of work under the lock. */
export const unknownOutcome = ({ kind, lock, reason, token }: LockLost): LockLost =>
  new LockLost({ kind, lock, token, reason, outcome: "Unknown" })
