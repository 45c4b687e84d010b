/**
 * Leases on which idle keys expire. Keys written within a quarter of the time to live share one, so a write seldom costs a
 * grant. A key lives at least as long as requested, and at most a half longer.
 */
import * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import * as Lease from "@effect-kv/core/Lease"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

export interface IdleLeases {
  /** A lease that lives at least so long from now on. */
  readonly get: (millis: number) => Effect.Effect<bigint, KvError>
  /** Forgets a lease that the store does not have. */
  readonly forget: (lease: bigint) => void
}

/** Longer than any circuit stays open, and less than etcd's limit. */
const maxSeconds = 1_000_000_000

export const make = (kv: Kv.Kv): IdleLeases => {
  const leases = new Map<number, { readonly id: bigint; readonly until: number }>()
  return {
    get: Effect.fnUntraced(function*(millis) {
      const wanted = Math.min(maxSeconds, Math.max(1, Math.ceil(millis / 1000)))
      // Times of the same order share a lease.
      const unit = 2 ** Math.max(0, Math.floor(Math.log2(wanted)) - 2)
      const seconds = Math.ceil(wanted / unit) * unit
      const shared = Math.max(1, Math.ceil(seconds / 4))
      const now = yield* Clock.currentTimeMillis
      const known = leases.get(seconds)
      if (known !== undefined && now < known.until) return known.id
      const { id } = yield* Effect.provideService(Lease.grant({ ttl: (seconds + shared) * 1000 }), Kv.Kv, kv)
      leases.set(seconds, { id, until: now + shared * 1000 })
      return id
    }),
    forget: (lease) => {
      for (const [seconds, { id }] of leases) if (id === lease) leases.delete(seconds)
    }
  }
}
