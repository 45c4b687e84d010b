/**
 * Random ids for leases.
 */
import * as Effect from "effect/Effect"

/**
 * A random positive 63-bit number. Not from Effect's `Random`, which may be seeded: two processes with the same seed
 * would choose the same lease, and one could revoke the other's.
 */
export const random: Effect.Effect<bigint> = Effect.sync(() => {
  // oxlint-disable-next-line no-restricted-globals -- must not be seeded, see above
  const [bits] = crypto.getRandomValues(new BigUint64Array(1))
  return bits! >> 1n || 1n
})
