/**
 * The keys that a client holds as temporary keys, so that its own plain puts cannot detach one from its lease: such a key
 * would outlive its scope, and stay when the process dies.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { KvBackend } from "../../backend/KvBackend.ts"
import * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"

/** One temporary key, from before it is made until its removal begins; also while it is lost. */
export interface Claim {
  /** The lease it is attached to, or is to be attached to. */
  lease: bigint | undefined
  /** A write that was sent before may get through to the backend only now; it claims nothing any more. */
  isReleased: boolean
  /** One for each backend that knows the key: a client can be made from the backend of another. */
  readonly releases: Map<unknown, () => void>
}

export const claim = (): Claim => ({ lease: undefined, isReleased: false, releases: new Map() })

export const release = (claim: Claim): void => {
  claim.isReleased = true
  for (const forget of claim.releases.values()) forget()
  claim.releases.clear()
}

/**
 * Marks the write that makes a temporary key. A reference of the fiber, because only the client's own backend sees the key
 * as the store has it: above it, namespaces have prefixes of their own.
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
      message:
        `${JSON.stringify(key)} is a temporary key of this client. A put without its lease would leave it behind: ` +
        "write it with the temporary key's set, or put it with its lease"
    })
  )
