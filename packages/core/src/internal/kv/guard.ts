/**
 * The outermost layer of a `Kv`: it makes each write conditional on the fences of the calling fiber.
 *
 * It must stay above batching: a batch runs in the context of one of its callers, but needs the conditions of each.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { execute, type KvBackend } from "../../backend/KvBackend.ts"
import * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import * as currentFences from "../fence/currentFences.ts"
import type { Fence } from "../fence/currentFences.ts"
import * as rootCompare from "../fence/rootCompare.ts"

/** The client that a `Kv` belongs to, and how the `Kv` sees that client's store. */
export interface Origin {
  /** Identifies the client. */
  readonly client: object
  /** The prefix of the `Kv`'s keys at the client's root. */
  readonly prefix: string
  /** The `Kv`'s own fences, in addition to those of the calling fiber. */
  readonly fences: ReadonlyArray<Fence>
  /** The backend below the guard. */
  readonly raw: KvBackend
  /** The alarms of the store, for its health; `undefined` for a store that has none. */
  readonly alarms: Effect.Effect<ReadonlyArray<string>, KvError.KvError> | undefined
}

/** The backend of a client without namespaces, below the guard. */
export const root = (backend: KvBackend): KvBackend => ({
  execute: (op) => backend.execute(rootCompare.resolve(op)),
  watch: (request) => backend.watch(request),
  leaseGrant: (options) => backend.leaseGrant(options),
  leaseKeepAlive: (id) => backend.leaseKeepAlive(id),
  leaseRevoke: (id) => backend.leaseRevoke(id),
  leaseTimeToLive: (id, options) => backend.leaseTimeToLive(id, options)
})

/**
 * The most conditions of a write. etcd allows 128 elements. One is left for the write itself if it is a transaction,
 * and for the condition in each transaction that finds out which fence did not hold.
 */
export const maxConditions = 127

/** The fences that apply to a call of the fiber. */
export const fencesOf = (origin: Origin, fiber: Fiber.Fiber<unknown, unknown>): ReadonlyArray<Fence> => {
  const current = fiber.getRef(currentFences.Current)
  if (current.length === 0) {
    return origin.fences.length > 0 && fiber.getRef(currentFences.IsExempt) ? [] : origin.fences
  }
  const own = current.filter((fence) => fence.client === origin.client)
  return origin.fences.length === 0 ? own : [...new Set([...own, ...origin.fences])]
}

/** The problem with so many conditions; `undefined` if they are allowed. */
export const tooMany = (conditions: number): string | undefined =>
  conditions <= maxConditions
    ? undefined
    : `a fenced write is one transaction with a condition for each lock; ${conditions} locks are too many, ` +
      `${maxConditions} are allowed`

/** How many of a transaction's elements the fences of the fiber take. */
export const reserved = (origin: Origin, fiber: Fiber.Fiber<unknown, unknown>): number => {
  const fences = fencesOf(origin, fiber)
  return fences.reduce((sum, { conditions }) => sum + conditions.length, 0)
}

/** The backend of a `Kv`'s methods, with fenced writes. */
export const guarded = (origin: Origin): KvBackend => {
  const { raw } = origin
  return {
    ...raw,
    execute: (op) =>
      Op.isWrite(op)
        ? Effect.withFiber((fiber) => {
          const fences = fencesOf(origin, fiber)
          return fences.length === 0 ? raw.execute(op) : conditional(raw, fences, op)
        })
        : raw.execute(op),
    // The store cannot revoke on a condition.
    leaseRevoke: (id) => Effect.withFiber((fiber) => notHeld(fencesOf(origin, fiber))?.notHeld ?? raw.leaseRevoke(id))
  }
}

/**
 * The backend for the bookkeeping of locks, sessions and temporary keys. No fence applies to it: neither one of this
 * client, nor one of another client whose backend this client was made from.
 */
export const unfenced = (raw: KvBackend): KvBackend => ({
  ...raw,
  execute: (op) => Op.isWrite(op) ? currentFences.exempt(raw.execute(op)) : raw.execute(op),
  leaseRevoke: (id) => currentFences.exempt(raw.leaseRevoke(id))
})

const notHeld = (fences: ReadonlyArray<Fence>): Fence | undefined => fences.find((fence) => !fence.isHeldUnsafe())

const conditional = (
  raw: KvBackend,
  fences: ReadonlyArray<Fence>,
  op: Op.Op
): Effect.Effect<Op.Response, KvError.KvError> => {
  // A fence that is known to be lost needs no request. By its own clock a holder may know of the loss before the store.
  const lost = notHeld(fences)
  if (lost !== undefined) return lost.notHeld
  const conditions = fences.flatMap((fence) => fence.conditions)
  const problem = tooMany(conditions.length)
  if (problem !== undefined) return KvError.fail(new KvError.InvalidRequest({ message: problem }))
  return Effect.flatMap(
    execute(
      raw,
      Op.txn({
        if: conditions,
        then: [op],
        // With a single fence it is clear which one does not hold.
        else: fences.length === 1 ? [] : conditions.map((condition) => Op.txn({ if: [condition] }))
      })
    ),
    (response): Effect.Effect<Op.Response, KvError.KvError> =>
      response.succeeded
        ? Effect.succeed(response.responses[0])
        : rejected(fences, response.responses.map(({ succeeded }) => succeeded))
  )
}

/** Notifies every fence that does not hold. The write fails with the failure of the outermost of them. */
const rejected = (
  fences: ReadonlyArray<Fence>,
  holds: ReadonlyArray<boolean>
): Effect.Effect<never, KvError.KvError> => {
  let next = 0
  const broken = fences.filter(({ conditions }) => {
    const first = next
    next += conditions.length
    return holds.slice(first, next).includes(false)
  })
  const [outermost = fences[0]!, ...others] = broken
  return Effect.andThen(Effect.forEach(others, (fence) => Effect.flip(fence.rejected)), outermost.rejected)
}
