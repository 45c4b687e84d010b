/**
 * Leases that the store keeps longer than the client relies on them.
 *
 * By its own clock the client loses such a lease when its time to live has passed since the last renewal. The store ends
 * it a margin later. In between its keys exist and are not used: a cool-down that holds even if the client crashes.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { KvBackend } from "../../backend/KvBackend.ts"
import type * as Lease from "../../values/LeaseModel.ts"

/** A backend whose leases live so many seconds longer than it reports. */
export const longer = (backend: KvBackend, margin: number): KvBackend => {
  const reported = (lease: Lease.Lease): Lease.Lease => ({
    ...lease,
    ttl: Duration.subtract(lease.ttl, Duration.seconds(margin))
  })
  return {
    ...backend,
    leaseGrant: (options) =>
      Effect.map(
        backend.leaseGrant({
          ...options,
          ttl: Duration.sum(Duration.fromInputUnsafe(options.ttl), Duration.seconds(margin))
        }),
        reported
      ),
    leaseKeepAlive: (id) => Effect.map(backend.leaseKeepAlive(id), reported),
    // A revocation would delete keys without the margin. The lease expires by itself.
    leaseRevoke: () => Effect.void
  }
}
