/**
 * The options of the layer: the types that `EtcdLayer` and what checks them share.
 */
import type * as Batching from "@effect-kv/core/Batching"
import type * as Duration from "effect/Duration"
import type * as Redacted from "effect/Redacted"

/** How to reach a cluster. */
export interface Options {
  /**
   * The members' client URLs, such as `http://127.0.0.1:2379`: with a port, and all http or all https. A Unix socket is
   * `unix://PATH`, or `unixs://PATH` with TLS.
   */
  readonly endpoints: ReadonlyArray<string>
  /** Narrows the store to the keys with this prefix, as `Kv.prefixed` does. Default: all of it. */
  readonly prefix?: string | undefined
  /** For https endpoints. Default: servers are verified by the certificate authorities that Node knows. */
  readonly tls?: TlsOptions | undefined
  /** Who to be, where the cluster has authentication enabled. Not used where it has not. */
  readonly auth?: AuthOptions | undefined
  /** How long a call may take where the program does not say (`Deadline.within`); `Infinity`: without limit. Default: 5 seconds. */
  readonly deadline?: Duration.Input | undefined
  /** When a connection that died silently is given up, if no new one could replace it. */
  readonly keepAlive?: KeepAliveOptions | undefined
  /** A span for each call, without values: see `Tracing`. Default: true. */
  readonly tracing?: boolean | undefined
  /**
   * How concurrent operations are batched into transactions (see `Batching`), `false` for not at all. Default: batched, within
   * etcd's default limits. Where there is a user or a client certificate, transactions are sent alone, and so are puts that ask
   * for the previous entry.
   */
  readonly batching?: false | BatchingOptions | undefined
}

/** See `Batching.Options`. */
export interface BatchingOptions extends Pick<Batching.Options, "maxOps" | "maxBytes" | "maxInFlight"> {}

/** Certificates and keys are the text of PEM files. */
export interface TlsOptions {
  /** The certificate authorities to verify servers by, instead of those that Node knows. */
  readonly ca?: string | undefined
  /** The client's certificate, with its chain, for mutual TLS. */
  readonly certificate?: string | undefined
  /** The key of the client's certificate. */
  readonly key?: Redacted.Redacted | undefined
  /** The name to expect in a server's certificate. Default: the endpoint's host. */
  readonly serverName?: string | undefined
  /**
   * Talk to servers whoever they are: neither their certificates nor their names are verified, and anybody on the way
   * can read and change everything. Default: false.
   */
  readonly insecureSkipVerify?: boolean | undefined
}

/** A user of etcd's. */
export interface AuthOptions {
  readonly username: string
  readonly password: Redacted.Redacted
}

/**
 * HTTP/2 pings, sent while calls or watches are in flight.
 *
 * **Details**
 *
 * They are the last resort. A connection that dies silently is normally replaced within a second, once a new one works
 * (see the README of this package); pings end one that no other can replace.
 */
export interface KeepAliveOptions {
  /** Silence after which the server is pinged. etcd closes connections that ping within 5 seconds. Default: 6 seconds. */
  readonly time?: Duration.Input | undefined
  /**
   * How long a ping may stay unanswered. The connection is given up after a silence of `time` and `timeout` together.
   * Default: 5 seconds.
   */
  readonly timeout?: Duration.Input | undefined
}
