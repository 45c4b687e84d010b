/**
 * The temporary keys of a client. Its plain puts to them are rejected, because a put without the lease would detach the
 * key: it would outlive its scope, and stay after the process crashes.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { KvBackend } from "../../backend/KvBackend.ts"
import * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"

/**
 * The claim of one temporary key to its name, from before its creation until its removal begins, even while it is lost.
 */
export interface Claim {
  /** The lease that the key is, or will be, attached to. */
  lease: bigint | undefined
  /** Whether it was released. A write that reaches the backend only after that claims nothing. */
  isReleased: boolean
  /** One function for each backend that knows the key: a client can be made from the backend of another. */
  readonly releases: Map<unknown, () => void>
}

export const claim = (): Claim => ({ lease: undefined, isReleased: false, releases: new Map() })

export const release = (claim: Claim): void => {
  claim.isReleased = true
  for (const forget of claim.releases.values()) forget()
  claim.releases.clear()
}

/**
 * The claim of the write that makes a temporary key. It is a fiber reference, because only the client's lowest backend
 * sees the key's full name: namespaces above it hide their prefix.
 */
export const Claiming: Context.Reference<Claim | undefined> = Context.Reference(
  "@effect-kv/core/internal/heldKeys",
  { defaultValue: (): Claim | undefined => undefined }
)

/** Rejects puts that would detach a temporary key of this client from its lease. For the lowest backend of a client. */
export const guarded = (backend: KvBackend): KvBackend => {
  const held = new Map<string, Set<Claim>>()

  const hold = (claim: Claim, key: string) => {
    const claims = held.get(key) ?? new Set()
    held.set(key, claims.add(claim))
    claim.releases.set(held, () => {
      claims.delete(claim)
      if (claims.size === 0 && held.get(key) === claims) held.delete(key)
    })
  }

  const detaching = (op: Op.Op): Op.Put | undefined => {
    switch (op._tag) {
      case "Put": {
        const claims = held.get(op.key)
        return claims === undefined || [...claims].some(({ lease }) => lease === op.lease) ? undefined : op
      }
      case "Txn":
        return firstOf(op.then, detaching) ?? firstOf(op.else, detaching)
      default:
        return undefined
    }
  }

  return {
    ...backend,
    execute: (op) =>
      Op.isWrite(op)
        ? Effect.withFiber((fiber) => {
          const claim = fiber.getRef(Claiming)
          if (claim !== undefined) {
            if (claim.isReleased) return backend.execute(op)
            const put = firstOf([op], putOf)
            if (put !== undefined) hold(claim, put.key)
          } else if (held.size > 0) {
            const put = detaching(op)
            if (put !== undefined) return rejected(put.key)
          }
          return backend.execute(op)
        })
        : backend.execute(op)
  }
}

const putOf = (op: Op.Op): Op.Put | undefined =>
  op._tag === "Put" ? op : op._tag === "Txn" ? firstOf(op.then, putOf) ?? firstOf(op.else, putOf) : undefined

const firstOf = (
  ops: ReadonlyArray<Op.Op>,
  find: (op: Op.Op) => Op.Put | undefined
): Op.Put | undefined => {
  for (const op of ops) {
    const found = find(op)
    if (found !== undefined) return found
  }
  return undefined
}

const rejected = (key: string): Effect.Effect<never, KvError.KvError> =>
  KvError.fail(
    new KvError.InvalidRequest({
      message: `${JSON.stringify(key)} is a temporary key of this client. A put without its lease would detach it: ` +
        "write it with the temporary key's set, or put it with its lease"
    })
  )
