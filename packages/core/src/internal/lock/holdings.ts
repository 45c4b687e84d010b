/**
 * The locks whose body a fiber runs. They are recorded to detect a fiber that would wait for itself.
 */
import * as Context from "effect/Context"
import type { Kv } from "../../service/KvService.ts"
import * as internals from "../kv/internals.ts"

/** Locks that were acquired together, and the fiber that runs their body. */
export interface Holding {
  readonly client: object
  /** The names of the locks, as keys of the client's root. */
  readonly names: ReadonlyArray<string>
  readonly fiber: number
}

/** The holdings of the fiber and of the fibers that started it. */
export const Holdings: Context.Reference<ReadonlyArray<Holding>> = Context.Reference("@effect-kv/core/holdings", {
  defaultValue: (): ReadonlyArray<Holding> => []
})

export const make = (kv: Kv, names: ReadonlyArray<string>, fiber: number): Holding => ({
  client: internals.of(kv).origin.client,
  names: names.map((name) => internals.of(kv).origin.prefix + name),
  fiber
})

/**
 * The first of the names that the fiber itself holds. A child of the holder may wait, as its parent need not await it.
 */
export const heldBy = (
  holdings: ReadonlyArray<Holding>,
  kv: Kv,
  names: ReadonlyArray<string>,
  fiber: number
): string | undefined => {
  const own = holdings.filter((holding) => holding.client === internals.of(kv).origin.client && holding.fiber === fiber)
  return names.find((name) => own.some((holding) => holding.names.includes(internals.of(kv).origin.prefix + name)))
}
