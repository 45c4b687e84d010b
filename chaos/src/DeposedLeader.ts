/**
 * An etcd bug, told apart from bugs of this library by the server's own metrics.
 *
 * A leader that is stopped while another one is elected still believes that it leads when it resumes. It missed all
 * renewals meanwhile. So it revokes leases as expired that its successor has renewed, just before it learns about the
 * successor. The leadership check (etcd issues 12528 and 15247, pull request 16822; in 3.4.28 and 3.5.10) is skipped if
 * the member "is active", which it is as soon as its clock ticks again. `etcd15247.ts` reproduces it without this
 * library.
 *
 * No client can prevent this. The leases have ended, and the sessions report it. Until they do, only the fence
 * protects.
 */
import type { EtcdCluster, History, RevisionChecker } from "@effect-kv/test-suite/verification"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { AppliedFault } from "./AppliedFault.ts"
import type { Cluster } from "./etcd/Servers.ts"

/** How many leases a member revoked because it considered them expired. */
const revocationsOf = (cluster: Cluster, member: EtcdCluster.Member) =>
  Effect.map(cluster.metrics(member), (metrics) => metrics.get("etcd_debugging_server_lease_expired_total"))

/** A leader looks for expired leases twice a second, so it is done by then. */
const untilDone = "1 second"

/**
 * Stops a member and reports the leases that it revoked after it resumed, if it was no longer the leader. Reports
 * nothing if that cannot be determined, for instance because the member was killed as well.
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

/** When a lease that still has time to live was last renewed, relative to the moment at which the member resumed. */
const renewedFrom = -2_500_000_000n
const renewedTo = 1_500_000_000n

/**
 * The leases among those that ended early which deposed leaders revoked: renewed at about the time a leader resumed,
 * and at most as many as its metrics count. Leases of the harness have a time to live of 2 seconds.
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
