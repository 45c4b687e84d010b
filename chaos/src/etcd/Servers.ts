/**
 * The servers of an etcd cluster.
 */
import type { EtcdCluster } from "@effect-kv/test-suite/verification"

/** A running cluster. */
export type Cluster = EtcdCluster.EtcdCluster["Service"]

export interface Servers {
  readonly cluster: Cluster
  /** The members by index. Replacing a member puts another one in its place. */
  readonly slots: Array<EtcdCluster.Member>
}
