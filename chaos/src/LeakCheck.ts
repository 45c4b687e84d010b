/**
 * What clients must have given back by themselves: keys of locks and temporary keys when their users are done, while the
 * sessions that they stand on go on; and the sessions themselves when the clients close, long before their time is up.
 */
import type { EtcdCluster } from "@effect-kv/test-suite/verification"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Resources from "./Resources.ts"
import type { Cluster } from "./Testbed.ts"
import { isResidentKey } from "./work/leases.ts"

/** How long keys of clients that could not give them back may live on: their leases run out, which a new leader begins anew. */
const runOut = { schedule: Schedule.spaced("200 millis"), times: 50 }

/** Keys that nobody needs any more, once all workers are done. */
export const keysLeft = Effect.fnUntraced(function*(cluster: Cluster, prefix: string) {
  const keys = Effect.map(
    cluster.etcdctl(["get", prefix, "--prefix", "--keys-only"]),
    (text) => text.split("\n").filter((key) => Resources.isOwned(key) && !isResidentKey(key))
  )
  const left = yield* Effect.repeat(keys, { until: (keys) => keys.length === 0, ...runOut }).pipe(Effect.andThen(keys))
  return left.length === 0
    ? []
    : [`${left.length} keys are left though nobody has them any more: ${left.slice(0, 3).join(", ")}`]
})

/** Watches of a client that go on to the end: its plans, its view, and that of its resident key; there is room for some more. */
const watchesOfClient = 10

/** Watches that nobody needs any more, once all workers are done. The recording of the history is one too. */
export const watchesLeft = Effect.fnUntraced(function*(cluster: Cluster, clients: number) {
  const limit = clients * watchesOfClient + 1
  const watches = Effect.map(
    Effect.flatMap(cluster.currentMembers, (members) => Effect.forEach(members, (member) => cluster.metrics(member))),
    (all) => all.reduce((sum, metrics) => sum + metrics.get(Resources.watchMetric), 0)
  )
  const left = yield* Effect.repeat(watches, { until: (count) => count <= limit, ...runOut }).pipe(
    Effect.andThen(watches)
  )
  return left <= limit ? [] : [`${left} watches are left on the servers though most of them are closed`]
})

/** The leases there are at this moment. */
export const leases = (cluster: Cluster) =>
  Effect.map(
    cluster.etcdctl(["lease", "list"]),
    (text) => text.split("\n").filter((line) => /^[0-9a-f]+$/.test(line)).map((line) => BigInt(`0x${line}`))
  )

/** Which of the leases that were there when the clients had closed were those of their resident keys to the last. */
export const sessionsLeft = (
  leases: ReadonlyArray<bigint>,
  changes: ReadonlyArray<EtcdCluster.HistoryEvent>
): ReadonlyArray<string> => {
  const last = new Map<string, bigint>()
  for (const { key, lease, type } of changes) if (type === "put" && isResidentKey(key)) last.set(key, lease)
  return [...last].flatMap(([key, lease]) =>
    leases.includes(lease) ? [`the client closed and left the lease of ${key} to run out`] : []
  )
}
