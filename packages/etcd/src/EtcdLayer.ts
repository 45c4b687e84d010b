/**
 * Layers that provide `Kv` on an etcd cluster.
 *
 * A layer can be built while the cluster is unreachable: it connects on first use, to one endpoint at a time, and moves
 * to another when that one fails. Closing the layer's scope ends everything that is in flight.
 *
 * Servers run in real time, and so does the layer, whatever `Clock` its builder or caller has installed. Under
 * Effect's `TestClock`, deadlines, retries, sessions, `acquireTimeout` and `maxHold` follow the machine's clock. The
 * program's own effects, such as the body of a lock, keep their clock.
 */
import * as Batching from "@effect-kv/core/Batching"
import * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import * as KvMetrics from "@effect-kv/core/KvMetrics"
import * as Tracing from "@effect-kv/core/Tracing"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { EtcdClient } from "./EtcdClient.ts"
import * as backend from "./internal/backend.ts"
import type {
  AuthOptions,
  BatchingOptions,
  KeepAliveOptions,
  Options,
  TlsFiles,
  TlsOptions
} from "./internal/options.ts"
import * as realTime from "./internal/realTime.ts"
import * as settings from "./internal/settings.ts"

export type { AuthOptions, BatchingOptions, KeepAliveOptions, Options, TlsFiles, TlsOptions }

/**
 * Provides `Kv` on an etcd cluster, and the cluster's {@link EtcdClient}.
 *
 * Fails with `InvalidRequest` if the options are invalid, never because the cluster is unreachable.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { EtcdLayer } from "@effect-kv/etcd"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("config/limit", "10")
 *   yield* Kv.get("config/limit") // => Option.some("10")
 * }).pipe(Effect.provide(EtcdLayer.layer({ endpoints: ["http://127.0.0.1:2379"], prefix: "app/" })))
 * ```
 *
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<Kv.Kv | EtcdClient, KvError> => Layer.effectContext(make(options))

/**
 * {@link layer} with options from Effect's `Config`.
 *
 * **When to use**
 *
 * For options from the environment, such as the names of certificates' files:
 * `tls: { files: { ca: Config.String("ETCD_CA_FILE") } }`.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { EtcdLayer } from "@effect-kv/etcd"
 * import { Config, Effect } from "effect"
 *
 * const Live = EtcdLayer.layerConfig({
 *   endpoints: Config.succeed(["http://127.0.0.1:2379"]),
 *   prefix: Config.String("KV_PREFIX").pipe(Config.withDefault("orders/"))
 * })
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("last", "17")
 *   yield* Kv.get("last") // => Option.some("17")
 * }).pipe(Effect.provide(Live))
 * ```
 *
 * @since 0.1.0
 */
export const layerConfig = (
  options: Config.Wrap<Options>
): Layer.Layer<Kv.Kv | EtcdClient, KvError | Config.ConfigError> =>
  Layer.effectContext(Effect.flatMap(Config.unwrap(options), make))

/**
 * {@link layer} with the endpoints, and maybe the user, in a URL: `http(s)://[user:password@]host:port[,host:port...]`.
 * User name and password are percent-encoded. A user in `options` replaces the one in the URL.
 *
 * Fails with `InvalidRequest` if the URL is malformed. The message never repeats the URL, which may hold a password.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { EtcdLayer } from "@effect-kv/etcd"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("greeting", "hello")
 *   yield* Kv.get("greeting") // => Option.some("hello")
 * }).pipe(Effect.provide(EtcdLayer.fromUrl("http://127.0.0.1:2379")))
 * ```
 *
 * @since 0.1.0
 */
export const fromUrl = (
  url: string,
  options?: Omit<Options, "endpoints">
): Layer.Layer<Kv.Kv | EtcdClient, KvError> =>
  Layer.effectContext(Effect.flatMap(settings.fromUrl(url), (fromUrl) => make({ ...fromUrl, ...options })))

/** The options are checked in the context of the builder, to which the effects and streams in them belong. */
const make = (options: Options): Effect.Effect<Context.Context<Kv.Kv | EtcdClient>, KvError, Scope.Scope> =>
  Effect.flatMap(settings.make(options), (checked) => realTime.provide(build(options, checked)))

const build = Effect.fnUntraced(
  function*(
    options: Options,
    checked: settings.Settings
  ): Effect.fn.Return<Context.Context<Kv.Kv | EtcdClient>, KvError, Scope.Scope> {
    const { alarms, client, kv } = yield* backend.make(checked)
    const metrics = checked.meter === undefined ? undefined : yield* KvMetrics.calls(labelsOf(checked))
    const measured = metrics === undefined ? kv : KvMetrics.measured(metrics)(kv)
    const batched = options.batching === false ? measured : Batching.batched({
      ...options.batching,
      metrics,
      deadline: checked.deadline,
      // Older versions of etcd (such as 3.4.23) do not check the permissions of nested transactions. Nor do they check
      // whether a put in a transaction may read the previous entry.
      transactions: options.auth === undefined && options.tls?.certificate === undefined &&
        options.tls?.files?.certificate === undefined
    })(kv)
    const traced = options.tracing === false
      ? batched
      : Tracing.traced(labelsOf(checked), typeof options.tracing === "object" ? options.tracing : {})(batched)
    return Context.make(Kv.Kv, yield* Kv.make(realTime.backend(traced), { alarms: realTime.provide(alarms) })).pipe(
      Context.add(EtcdClient, client)
    )
  }
)

const labelsOf = ({ prefix }: settings.Settings): Readonly<Record<string, string>> =>
  prefix === "" ? { "db.system.name": "etcd" } : { "db.system.name": "etcd", "db.namespace": prefix }
