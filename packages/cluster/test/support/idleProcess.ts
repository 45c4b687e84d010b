/**
 * What an idle runner costs a real etcd, at the default intervals of Effect.
 */
import { EtcdCluster } from "@effect-kv/test-suite/verification"
import * as Effect from "effect/Effect"
import { start } from "./runnerProcesses.ts"

export interface Requests {
  /** Renewals of leases in ten seconds. */
  readonly renewals: number
  /** Reads in ten seconds, those in transactions included. */
  readonly reads: number
}

/** The requests that etcd has served from one runner, in ten seconds of twenty. */
export const measure = Effect.gen(function*() {
  const cluster = yield* EtcdCluster.make()
  const runner = yield* start({ endpoint: cluster.endpoints[0]!, prefix: "x", shards: 300, intervals: "default" })
  yield* runner.begin
  yield* runner.owns((owned) => owned === 300, 0)
  const read = Effect.map(cluster.metrics(), ({ get, series }) => ({
    renewals: get("etcd_debugging_lease_renewed_total"),
    reads: [...series].reduce(
      (sum, [name, count]) => /^grpc_server_started_total\{.*grpc_method="(Range|Txn)"/.test(name) ? sum + count : sum,
      0
    )
  }))
  yield* Effect.sleep("5 seconds")
  const before = yield* read
  yield* Effect.sleep("20 seconds")
  const after = yield* read
  const requests: Requests = {
    renewals: (after.renewals - before.renewals) / 2,
    reads: (after.reads - before.reads) / 2
  }
  return requests
})
