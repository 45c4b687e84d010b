/**
 * A fault of etcd's own, told from ours by the server's own count.
 *
 * A leader that was stopped while another was elected takes itself for the leader when it wakes. It has heard of no renewal
 * meanwhile; so it takes leases for expired that its successor has renewed, and has them revoked, the moment before it
 * learns of its successor. The check of its leadership (etcd issues 12528 and 15247, pull request 16822; in 3.4.28 and
 * 3.5.10) is left out where the member "is active", which it is as soon as its clock ticks again. `etcd15247.ts` shows
 * it without a line of this library.
 *
 * No client can prevent that. Its leases have ended, its sessions say so, and until they do only a fence protects.
 */
import type { EtcdCluster, History, RevisionChecker } from "@effect-kv/test-suite/verification"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { AppliedFault } from "./AppliedFault.ts"
import type { Cluster } from "./Testbed.ts"

/** Leases that a member had revoked because it took them for expired. */
const revocationsOf = (cluster: Cluster, member: EtcdCluster.Member) =>
  Effect.map(cluster.metrics(member), (metrics) => metrics.get("etcd_debugging_server_lease_expired_total"))

/** It looks for expired leases twice a second, and is done with it before. */
const untilDone = "1 second"

/**
 * Stops a member, and says what it did afterwards that only a leader may, if it was not the leader any more. Where that
 * cannot be told, because it was killed as well for instance, nothing is said.
 */
export const observe = Effect.fnUntraced(function*(
  cluster: Cluster,
  member: EtcdCluster.Member,
  stop: Effect.Effect<void>
) {
  const before = yield* Effect.option(revocationsOf(cluster, member))
  yield* stop
  const resumed = yield* Clock.monotonicTimeNanos
  const leads = Effect.map(cluster.leader, (leader) => leader === member)
  const deposed = Effect.gen(function*() {
    if (yield* leads) return undefined
    yield* Effect.sleep(untilDone)
    if (yield* leads) return undefined
    const revoked = (yield* revocationsOf(cluster, member)) - (yield* Effect.fromOption(before))
    return revoked > 0 ? { resumed, revoked } : undefined
  })
  return { ended: resumed, healed: resumed, deposed: Option.getOrUndefined(yield* Effect.option(deposed)) }
})

/** When a lease was renewed last that has time left when it is revoked: from and to, from when the member resumed on. */
const renewedFrom = -2_500_000_000n
const renewedTo = 1_500_000_000n

/**
 * The leases among those that ended too early which deposed leaders had revoked: renewed around when one resumed, and not more
 * than it counted. Leases of the harness live for 2 seconds.
 */
export const revokedLeases = (
  violations: ReadonlyArray<RevisionChecker.Violation>,
  history: History.History,
  appliedFaults: ReadonlyArray<AppliedFault>
): ReadonlySet<bigint> => {
  const invoked = new Map(history.calls.map((call) => [call.id, call.invoked.nanos]))
  const early = violations.flatMap(({ lease, records }) => {
    const renewed = invoked.get(records[0]!)
    return lease === undefined || renewed === undefined ? [] : [{ lease, renewed }]
  })
  return new Set(
    appliedFaults.flatMap(({ deposed }) =>
      deposed === undefined
        ? []
        : early
          .filter(({ renewed }) => renewed > deposed.resumed + renewedFrom && renewed < deposed.resumed + renewedTo)
          .slice(0, deposed.revoked).map(({ lease }) => lease)
    )
  )
}
