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
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { EtcdClient } from "./EtcdClient.ts"
import * as backend from "./internal/backend.ts"
import type { AuthOptions, BatchingOptions, KeepAliveOptions, Options, TlsOptions } from "./internal/options.ts"
import * as realTime from "./internal/realTime.ts"
import * as settings from "./internal/settings.ts"

export type {
  /** A user of etcd's. */
  AuthOptions,
  /** See `Batching.Options`. */
  BatchingOptions,
  /** gRPC pings, sent while calls or watches are waiting. */
  KeepAliveOptions,
  /** How to reach a cluster. */
  Options,
  /** Certificates and keys are the text of PEM files. */
  TlsOptions
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
