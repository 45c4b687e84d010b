/**
 * Leaks on the servers. Clients must delete the keys of locks and temporary keys when their users are done, while the
 * sessions continue. They must revoke the sessions themselves when they close, long before the leases expire.
 */
import type { EtcdCluster } from "@effect-kv/test-suite/verification"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Resources from "./Resources.ts"
import type { Cluster } from "./Testbed.ts"
import { isResidentKey } from "./work/leases.ts"
import { isMemberKey } from "./work/members.ts"

/**
 * How long keys may remain whose client could not delete them: until their leases expire, whose time to live a new
 * leader starts again.
 */
const runOut = { schedule: Schedule.spaced("200 millis"), times: 50 }

/** Keys that no client needs any more once all workers have ended. */
export const keysLeft = Effect.fnUntraced(function*(cluster: Cluster, prefix: string) {
  const keys = Effect.map(
    cluster.etcdctl(["get", prefix, "--prefix", "--keys-only"]),
    (text) => text.split("\n").filter((key) => Resources.isOwned(key) && !isResidentKey(key) && !isMemberKey(key))
  )
  const left = yield* Effect.repeat(keys, { until: (keys) => keys.length === 0, ...runOut }).pipe(Effect.andThen(keys))
  return left.length === 0
    ? []
    : [`${left.length} keys are left that no client holds any more: ${left.slice(0, 3).join(", ")}`]
})

/**
 * The long-lived watches of a client: its watch plans, its views, its observer of the election, its wait for the last latch,
 * and those of its long-lived temporary key and its member, with some margin.
 */
const watchesOfClient = 17

/** Watches that no client needs any more once all workers have ended. The recording of the history is one watch. */
export const watchesLeft = Effect.fnUntraced(function*(cluster: Cluster, clients: number) {
  const limit = clients * watchesOfClient + 1
  const watches = Effect.map(
    Effect.flatMap(cluster.currentMembers, (members) => Effect.forEach(members, (member) => cluster.metrics(member))),
    (all) => all.reduce((sum, metrics) => sum + metrics.get(Resources.watchMetric), 0)
  )
  const left = yield* Effect.repeat(watches, { until: (count) => count <= limit, ...runOut }).pipe(
    Effect.andThen(watches)
  )
  return left <= limit ? [] : [`${left} watches are left on the servers, although most of them were closed`]
})

/** The leases that exist now. */
export const leases = (cluster: Cluster) =>
  Effect.map(
    cluster.etcdctl(["lease", "list"]),
    (text) => text.split("\n").filter((line) => /^[0-9a-f]+$/.test(line)).map((line) => BigInt(`0x${line}`))
  )

/** Which leases that existed when the clients had closed still held a client's long-lived temporary key. */
export const sessionsLeft = (
  leases: ReadonlyArray<bigint>,
  changes: ReadonlyArray<EtcdCluster.HistoryEvent>
): ReadonlyArray<string> => {
  const last = new Map<string, bigint>()
  for (const { key, lease, type } of changes) if (type === "put" && isResidentKey(key)) last.set(key, lease)
  return [...last].flatMap(([key, lease]) =>
    leases.includes(lease) ? [`the client closed without revoking the lease of ${key}`] : []
  )
}
