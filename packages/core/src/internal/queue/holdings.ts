/**
 * What a fiber holds while it runs a body. It is recorded to detect a fiber that would wait for itself.
 */
import * as Context from "effect/Context"
import type { Kv } from "../../service/KvService.ts"
import * as internals from "../kv/internals.ts"
import type { Queue, SelfClaim } from "./rule.ts"

/** What was acquired together, and the fiber that runs its body. */
export interface Holding {
  readonly client: object
  /** The claims, by the id at the client's root. */
  readonly claims: ReadonlyMap<string, SelfClaim>
  readonly fiber: number
}

/** The holdings of the fiber and of the fibers that started it. */
export const Holdings: Context.Reference<ReadonlyArray<Holding>> = Context.Reference("@effect-kv/core/holdings", {
  defaultValue: (): ReadonlyArray<Holding> => []
})

/** What a fiber holds or requests. */
export type Claimed = Pick<Queue<unknown>, "claim" | "name">

export const make = (kv: Kv, queues: ReadonlyArray<Claimed>, fiber: number): Holding => ({
  client: internals.of(kv).origin.client,
  claims: new Map(queues.map(({ claim }) => [internals.of(kv).origin.prefix + claim.id, claim])),
  fiber
})

/**
 * The name of the first queue in which the fiber would wait for itself, because it holds what it requests. A child of
 * the holder may wait, as its parent need not await it.
 */
export const heldBy = (
  holdings: ReadonlyArray<Holding>,
  kv: Kv,
  queues: ReadonlyArray<Claimed>,
  fiber: number
): string | undefined => {
  const own = holdings.filter((holding) => holding.client === internals.of(kv).origin.client && holding.fiber === fiber)
  if (own.length === 0) return undefined
  return queues.find(({ claim: { id, limit, weight } }) => {
    const key = internals.of(kv).origin.prefix + id
    const held = own.reduce((sum, { claims }) => sum + (claims.get(key)?.weight ?? 0), 0)
    return held > 0 && held + weight > limit
  })?.name
}
