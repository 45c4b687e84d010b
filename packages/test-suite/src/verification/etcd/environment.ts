/**
 * Options of an etcd cluster, and the state that its parts share.
 */
import type * as Duration from "effect/Duration"
import type * as TestCertificates from "../TestCertificates.ts"
import type * as EtcdBinaries from "./EtcdBinaries.ts"
import type * as Guardian from "./Guardian.ts"
import type { PeerNetwork } from "./PeerNetwork.ts"

/**
 * Options of a cluster.
 *
 * @since 0.1.0
 */
export interface Options {
  /** Default: the version under test, see `EtcdBinaries.currentVersion`. */
  readonly version?: EtcdBinaries.Version | undefined
  /** Default: 1. */
  readonly members?: 1 | 3 | undefined
  /** Further flags of `etcd`, without the dashes: `{ "auth-token-ttl": 4, "max-txn-ops": 256 }`. */
  readonly flags?: Readonly<Record<string, string | number | boolean>> | undefined
  /** Serves clients over TLS. Members talk to each other in plain text. */
  readonly tls?: Tls | undefined
  /** Whether members can be isolated from their peers: see `EtcdCluster.isolate`. Default: false. */
  readonly isolatable?: boolean | undefined
  /** How long members may take to become healthy. Default: 30 seconds. */
  readonly startTimeout?: Duration.Input | undefined
}

/**
 * TLS between clients and members.
 *
 * @since 0.1.0
 */
export interface Tls {
  /** The certificate of the members. */
  readonly server: TestCertificates.Certificate
  /** The authority that signed the clients' certificates. `etcdctl` also verifies the server's certificate with it. */
  readonly ca: TestCertificates.Certificate
  /** The certificate of `etcdctl`. If given, members require a certificate from every client. */
  readonly client?: TestCertificates.Certificate | undefined
}

/** What the parts of a cluster share. */
export interface Environment {
  readonly binaries: EtcdBinaries.EtcdBinaries
  readonly guardian: Guardian.Guardian
  readonly options: Options
  readonly startTimeout: Duration.Input
  /** Between the members, if they can be isolated. */
  readonly peers: PeerNetwork | undefined
  /** Set once authentication is on. */
  rootPassword: string | undefined
}
