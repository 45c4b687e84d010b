/** The options of `EtcdLayer`: types that the layer and the check of its options share. */
import type * as Batching from "@effect-kv/core/Batching"
import type * as Tracing from "@effect-kv/core/Tracing"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import type * as Stream from "effect/Stream"

/**
 * How to reach a cluster.
 *
 * @since 0.1.0
 */
export interface Options {
  /**
   * The client URLs of the members, such as `http://127.0.0.1:2379`: each with a port, and all http or all https. A
   * Unix socket is `unix://PATH`, or `unixs://PATH` with TLS.
   *
   * **Details**
   *
   * A stream of lists replaces the endpoints while the layer lives. The layer waits for the first list. Then each list
   * takes the place of the one before: calls in flight to a removed endpoint end normally, watches resume on another
   * one, and its connections close. An invalid or empty list is ignored with a warning. The last list stays in use when
   * the stream ends or fails.
   */
  readonly endpoints: ReadonlyArray<string> | Stream.Stream<ReadonlyArray<string>, unknown>
  /**
   * Whether to use the client URLs of the cluster's member list, too. The list is read after the first call, then every
   * minute and when an endpoint fails. Default: false.
   *
   * **Details**
   *
   * `endpoints` stay in use in any case. A client URL joins them once it has responded as a member of the same
   * cluster, and leaves them with its member. URLs of learners, URLs of the other scheme, and loopback addresses are
   * not used, the latter unless `endpoints` has one.
   */
  readonly followMembers?: boolean | undefined
  /** Confines the client to the keys with this prefix, as `Kv.prefixed` does. Default: the whole store. */
  readonly prefix?: string | undefined
  /** TLS for https endpoints. Default: Node's certificate authorities verify the servers. */
  readonly tls?: TlsOptions | undefined
  /** The user for clusters with authentication enabled. Ignored by other clusters. */
  readonly auth?: AuthOptions | undefined
  /**
   * How long a call may take if the program sets no `Deadline.within`. `Infinity` means no limit. Default: 5
   * seconds.
   */
  readonly deadline?: Duration.Input | undefined
  /** When a connection that died silently is closed if no new connection could replace it. */
  readonly keepAlive?: KeepAliveOptions | undefined
  /**
   * Whether calls have spans if a tracer is installed: see `Tracing`. `{ keys: true }` adds their keys to them. Default:
   * true, without keys.
   */
  readonly tracing?: boolean | Tracing.Options | undefined
  /**
   * Whether calls, requests and watches are measured: see `KvMetrics`. Sessions, locks and temporary keys always are.
   * Default: true.
   */
  readonly metrics?: boolean | undefined
  /**
   * How concurrent operations are batched into transactions (see `Batching`); `false` disables batching. Default:
   * batched, within etcd's default limits. With a user or a client certificate, transactions are sent alone, and so are
   * puts that request the previous entry.
   */
  readonly batching?: false | BatchingOptions | undefined
}

/**
 * How concurrent operations are batched: see `Batching.Options`.
 *
 * @since 0.1.0
 */
export interface BatchingOptions extends Pick<Batching.Options, "maxOps" | "maxBytes" | "maxInFlight"> {}

/**
 * TLS settings: how servers are verified, and the client's certificate. Certificates and keys are PEM: as text, or in
 * `files`.
 *
 * @since 0.1.0
 */
export interface TlsOptions {
  /** The certificate authorities that verify servers, instead of Node's. */
  readonly ca?: string | undefined
  /** The client's certificate, with its chain, for mutual TLS. */
  readonly certificate?: string | undefined
  /** The key of the client's certificate. */
  readonly key?: Redacted.Redacted | undefined
  /** The files of certificates and keys that are replaced while the layer lives. */
  readonly files?: TlsFiles | undefined
  /** The name to expect in a server's certificate. Default: the endpoint's host. */
  readonly serverName?: string | undefined
  /**
   * Verifies neither certificates nor names of servers: anyone on the network path can read and change all traffic.
   * Default: false.
   */
  readonly insecureSkipVerify?: boolean | undefined
}

/**
 * The names of PEM files, instead of their texts.
 *
 * **Details**
 *
 * Files are read again for each attempt to connect. An open connection keeps the certificates with which it was opened.
 * If a file cannot be read or is incomplete, the attempt fails with a reason that names the file, and the next attempt
 * reads it again. The layer fails with `InvalidRequest` if a file is still unusable one second after the first attempt
 * to read it.
 *
 * @since 0.1.0
 */
export interface TlsFiles {
  /** The file for `ca`. */
  readonly ca?: string | undefined
  /** The file for `certificate`. */
  readonly certificate?: string | undefined
  /** The file for `key`. */
  readonly key?: string | undefined
}

/**
 * A user of etcd.
 *
 * @since 0.1.0
 */
export interface AuthOptions {
  readonly username: string
  /**
   * The password, or an effect that returns it. The effect runs for each new token: on the first call, when the server
   * has rejected the token, and again if the server rejects the password.
   *
   * **Gotchas**
   *
   * If the effect fails, calls repeat it until their deadline, then fail with `Unavailable`. The error names only the
   * tag of the effect's failure, because the rest may be secret.
   */
  readonly password: Redacted.Redacted | Effect.Effect<Redacted.Redacted, unknown>
}

/**
 * HTTP/2 pings, sent while calls or watches are in flight.
 *
 * **Details**
 *
 * Pings are the last resort. A connection that dies silently is normally replaced within a second, once a new one
 * works (see the README of this package). Pings end a connection that no other can replace.
 *
 * @since 0.1.0
 */
export interface KeepAliveOptions {
  /**
   * Silence after which the server is pinged. etcd closes connections that ping more often than every 5 seconds.
   * Default: 6 seconds.
   */
  readonly time?: Duration.Input | undefined
  /**
   * How long to wait for the response to a ping. The connection is closed after `time` plus `timeout` of silence.
   * Default: 5 seconds.
   */
  readonly timeout?: Duration.Input | undefined
}
