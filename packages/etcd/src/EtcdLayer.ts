/**
 * Provides `Kv` on an etcd cluster.
 *
 * The layer can be built while the cluster is away: it connects when it is used, to one endpoint at a time, and moves
 * on to another when that one fails. Closing the layer's scope ends all that is under way.
 *
 * Servers live in real time, and so does the layer, whatever `Clock` is installed where it is built or used: under Effect's
 * `TestClock` deadlines, retries, sessions, `acquireTimeout` and `maxHold` are those of the machine's clock. The program's
 * own effects, such as the body of a lock, keep theirs.
 */
import * as Batching from "@effect-kv/core/Batching"
import * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import * as Tracing from "@effect-kv/core/Tracing"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { EtcdClient } from "./EtcdClient.ts"
import * as backend from "./internal/backend.ts"
import * as realTime from "./internal/realTime.ts"
import * as settings from "./internal/settings.ts"

/** How to reach a cluster. */
export interface Options {
  /** The members' client URLs, such as `http://127.0.0.1:2379`: with a port, and all http or all https. */
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
 * gRPC pings, sent while calls or watches are in flight.
 *
 * **Details**
 *
 * They are the last resort. A connection that dies silently is normally replaced within a second, once a new one answers
 * (see the README of this package); pings end one that no other can replace.
 */
export interface KeepAliveOptions {
  /** Silence after which the server is pinged. etcd closes connections that ping within 5 seconds. Default: 10 seconds. */
  readonly time?: Duration.Input | undefined
  /** How long a ping may stay unanswered before the connection is given up. Default: 5 seconds. */
  readonly timeout?: Duration.Input | undefined
}

/** `Kv` on an etcd cluster, and the {@link EtcdClient} beneath it. Fails only where the options are wrong. */
export const layer = (options: Options): Layer.Layer<Kv.Kv | EtcdClient, KvError> => Layer.effectContext(make(options))

/** {@link layer} with options from Effect's `Config`. */
export const layerConfig = (
  options: Config.Wrap<Options>
): Layer.Layer<Kv.Kv | EtcdClient, KvError | Config.ConfigError> =>
  Layer.effectContext(Effect.flatMap(Config.unwrap(options), make))

/**
 * {@link layer} with the options in a URL: `http(s)://[user:password@]host:port[,host:port...]`, user name and password
 * percent-encoded.
 */
export const fromUrl = (url: string): Layer.Layer<Kv.Kv | EtcdClient, KvError> =>
  Layer.effectContext(Effect.flatMap(settings.fromUrl(url), make))

const make = (options: Options): Effect.Effect<Context.Context<Kv.Kv | EtcdClient>, KvError, Scope.Scope> =>
  realTime.provide(build(options))

const build = Effect.fnUntraced(
  function*(options: Options): Effect.fn.Return<Context.Context<Kv.Kv | EtcdClient>, KvError, Scope.Scope> {
    const checked = yield* settings.make(options)
    const { client, kv } = yield* backend.make(checked)
    const batched = options.batching === false ? kv : Batching.batched({
      ...options.batching,
      deadline: checked.deadline,
      // Older versions of etcd (3.4.23 is one) check the permissions of a transaction, but not of those nested in it, and not
      // whether a put in it may read the previous entry.
      transactions: options.auth === undefined && options.tls?.certificate === undefined
    })(kv)
    const traced = options.tracing === false ? batched : Tracing.traced({ "db.system.name": "etcd" })(batched)
    return Context.make(Kv.Kv, yield* Kv.make(realTime.backend(traced))).pipe(Context.add(EtcdClient, client))
  }
)
