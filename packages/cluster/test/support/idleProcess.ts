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

/** The requests that etcd has received from one runner, in ten seconds of twenty. */
export const measure = Effect.gen(function*() {
  const cluster = yield* EtcdCluster.make()
  const runner = yield* start({ endpoint: cluster.endpoints[0]!, prefix: "x", shards: 300, intervals: "default" })
  yield* runner.owns((owned) => owned === 300, 0)
  const read = Effect.map(cluster.metrics(), ({ series }) => {
    const sum = (name: string, ...methods: ReadonlyArray<string>) =>
      [...series].reduce(
        (sum, [key, value]) =>
          key.startsWith(`${name}{`) && methods.some((method) => key.includes(`grpc_method="${method}"`))
            ? sum + value
            : sum,
        0
      )
    return {
      renewals: sum("grpc_server_msg_received_total", "LeaseKeepAlive"),
      reads: sum("grpc_server_started_total", "Range", "Txn")
    }
  })
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
