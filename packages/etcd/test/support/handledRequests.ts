/**
 * The number of requests that a server has handled, by its own metrics.
 */
import { EtcdCluster } from "@effect-kv/test-suite/verification"
import * as Effect from "effect/Effect"

/** How many requests the cluster has handled whose service or method contains the text. */
export const handledRequests = (text: string) =>
  Effect.flatMap(EtcdCluster.EtcdCluster, (cluster) =>
    Effect.map(cluster.metrics(), (metrics) =>
      [...metrics.series]
        .filter(([name]) => name.startsWith("grpc_server_handled_total") && name.includes(text))
        .reduce((sum, [, count]) => sum + count, 0)))
