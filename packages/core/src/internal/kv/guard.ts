/**
 * The outermost layer of a `Kv`: it makes each write conditional on the fences of the calling fiber.
 *
 * It must stay above batching: a batch runs in the context of one of its members, and has the conditions of each in it.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { execute, type KvBackend } from "../../backend/KvBackend.ts"
import * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import * as currentFences from "../fence/currentFences.ts"
import type { Fence } from "../fence/currentFences.ts"
import * as rootCompare from "../fence/rootCompare.ts"

/** Where the calls of a `Kv` go: the client it belongs to, and how it sees that client's store. */
export interface Origin {
  /** Identifies the client. */
  readonly client: object
  /** What its keys begin with at the client's root. */
  readonly prefix: string
  /** Fences that it has itself, besides those of the calling fiber. */
  readonly fences: ReadonlyArray<Fence>
  /** The backend below the guard. */
  readonly raw: KvBackend
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
 * The most conditions of a write, of etcd's 128: a write that is a transaction itself needs one, and so does each of the
 * transactions that tell which condition did not hold.
 */
export const maxConditions = 127

/** The fences of a call that the fiber makes. */
export const fencesOf = (origin: Origin, fiber: Fiber.Fiber<unknown, unknown>): ReadonlyArray<Fence> => {
  const current = fiber.getRef(currentFences.Current)
  if (current.length === 0) {
    return origin.fences.length > 0 && fiber.getRef(currentFences.IsExempt) ? [] : origin.fences
  }
  const own = current.filter((fence) => fence.client === origin.client)
  return origin.fences.length === 0 ? own : [...new Set([...own, ...origin.fences])]
}

/** What is wrong with so many conditions, `undefined` if nothing is. */
export const tooMany = (conditions: number): string | undefined =>
  conditions <= maxConditions
    ? undefined
    : `a fenced write is one transaction with a condition for each lock; ${conditions} locks are too many, ` +
      `${maxConditions} are allowed`

/** Data and leases as applications use them. */
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
 * For what locks, sessions and temporary keys need for themselves. Neither a fence of this client applies to it, nor one of
 * another client whose backend this client was made from.
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
  // What is known to be lost needs no request; and by its own clock a holder may know before the store.
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
        // With one fence it is known which does not hold.
        else: fences.length === 1 ? [] : conditions.map((condition) => Op.txn({ if: [condition] }))
      })
    ),
    (response): Effect.Effect<Op.Response, KvError.KvError> =>
      response.succeeded
        ? Effect.succeed(response.responses[0])
        : rejected(fences, response.responses.map(({ succeeded }) => succeeded))
  )
}

/** Every fence that does not hold is notified; the outermost of them decides how the write fails. */
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
