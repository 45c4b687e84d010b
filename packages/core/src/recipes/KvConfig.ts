/**
 * Configuration in the store, read with Effect's `Config`, at start and live.
 *
 * The keys under a prefix are a tree: slashes separate the names of a path. Everything that one provider loads is of
 * one revision, so a config never mixes two states of the store.
 *
 * A live value follows the store. It keeps the last good value while the newest configuration does not parse, says why,
 * and never fails: no outage, compaction or operator's mistake ends the program.
 */
import type * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as followedConfig from "../internal/config/followedConfig.ts"
import * as liveValue from "../internal/config/liveValue.ts"
import type { KvConfig as Service, Live, Options, Rejected, State } from "../internal/config/model.ts"
import * as internals from "../internal/kv/internals.ts"
import { Kv } from "../service/Kv.ts"
import type { KvError } from "../values/KvError.ts"

export type { Live, Options, Rejected, State }

/**
 * The configuration under a prefix, followed as it changes.
 *
 * @since 0.1.0
 */
export type KvConfig = Service

/**
 * The service tag of the program's configuration.
 *
 * @since 0.1.0
 */
export const KvConfig: Context.Service<KvConfig, KvConfig> = Context.Service<KvConfig>("@effect-kv/core/KvConfig")

/**
 * Reads the configuration under the prefix once, and makes a provider of it.
 *
 * **When to use**
 *
 * For a program that does not follow changes, such as a job. The layers of `ConfigProvider` accept it.
 *
 * **Details**
 *
 * The prefix is empty or ends with a slash. The provider stays at the revision of the read.
 *
 * @example
 * ```ts
 * import { Kv, KvConfig } from "@effect-kv/core"
 * import { Config, Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("config/database/host", "db-1")
 *   yield* Kv.put("config/database/ports/0", "5432")
 *   const provider = yield* KvConfig.provider("config/")
 *   const host = yield* Config.nested(Config.String("host"), "database").parse(provider) // => "db-1"
 * })
 * ```
 *
 * @since 0.1.0
 */
export const provider = Effect.fnUntraced(function*(
  prefix: string,
  options?: Options
): Effect.fn.Return<ConfigProvider.ConfigProvider, KvError, Kv> {
  const kv = yield* Kv
  const { entries, revision } = yield* kv.range(yield* followedConfig.rangeOf(prefix))
  const snapshot = { revision, entries: new Map(entries.map((entry) => [entry.key, entry])) }
  return followedConfig.configurationOf(prefix, snapshot, options).provider
})

/**
 * Follows the configuration under the prefix until the scope closes.
 *
 * **When to use**
 *
 * For a second configuration in one program, or without layers. Otherwise use {@link layer}.
 *
 * **Details**
 *
 * The prefix is empty or ends with a slash. This fails if the store cannot be read now. Later failures are not the
 * caller's: the last configuration stays in use, and a log and the `staleSince` of live values report it.
 *
 * @example
 * ```ts
 * import { Kv, KvConfig } from "@effect-kv/core"
 * import { Config, Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("config/limit", "10")
 *   const config = yield* KvConfig.make("config/")
 *   yield* config.get(Config.Int("limit")) // => 10
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  prefix: string,
  options?: Options
): Effect.fn.Return<KvConfig, KvError, Kv | Scope.Scope> {
  const { backend, sessions } = internals.of(yield* Kv)
  const following = yield* sessions.onClock(followedConfig.open(backend, prefix, options))
  const provider = Effect.map(SubscriptionRef.get(following), ({ newest }) => newest.provider)
  const ref: KvConfig["ref"] = (config) => liveValue.make(prefix, following, config)
  return KvConfig.of({
    prefix,
    provider,
    get: (config) => Effect.flatMap(provider, config.parse),
    changes: (config) => Stream.unwrap(Effect.map(ref(config), (live) => live.changes)),
    ref
  })
})

/**
 * Provides {@link KvConfig} with the configuration under the prefix, which is followed, and replaces the
 * `ConfigProvider` by one of the revision at which this layer was built.
 *
 * **Details**
 *
 * So all layers of a program that are built on this one read their configs at one revision. `KvConfig.get`, `changes`
 * and `ref` read newer ones.
 *
 * **Gotchas**
 *
 * The layer below, which connects to the store, must not need this one. Its configuration comes from elsewhere, such as
 * the environment.
 *
 * @example
 * ```ts
 * import { Kv, KvConfig } from "@effect-kv/core"
 * import { Config, Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("config/limit", "10")
 *   const limit = yield* Effect.provide(Config.Int("limit"), KvConfig.layer("config/")) // => 10
 * })
 * ```
 *
 * @since 0.1.0
 */
export const layer = (prefix: string, options?: Options): Layer.Layer<KvConfig, KvError, Kv> =>
  Layer.effectContext(Effect.flatMap(make(prefix, options), contextOf))

/**
 * As {@link layer}, but combines the store with the present `ConfigProvider`: what one of the two does not have, the
 * other provides.
 *
 * **Details**
 *
 * By default the present provider wins, such as the environment. With `asPrimary: true` the store wins. Live values
 * combine the two in the same way.
 *
 * @example
 * ```ts
 * import { Kv, KvConfig } from "@effect-kv/core"
 * import { Config, ConfigProvider, Effect, Layer } from "effect"
 *
 * const environment = ConfigProvider.layer(ConfigProvider.fromUnknown({ limit: "5" }))
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("config/limit", "10")
 *   yield* Kv.put("config/mode", "fast")
 *   const both = Config.all([Config.Int("limit"), Config.String("mode")])
 *   const overridable = KvConfig.layerAdd("config/").pipe(Layer.provide(environment))
 *   const first = yield* Effect.provide(both, overridable) // => [5, "fast"]
 *   const overriding = KvConfig.layerAdd("config/", { asPrimary: true }).pipe(Layer.provide(environment))
 *   const second = yield* Effect.provide(both, overriding) // => [10, "fast"]
 * })
 * ```
 *
 * @since 0.1.0
 */
export const layerAdd = (
  prefix: string,
  options?: Options & {
    /** True: the store wins. Default: false; the present provider wins. */
    readonly asPrimary?: boolean | undefined
  }
): Layer.Layer<KvConfig, KvError, Kv> =>
  Layer.effectContext(Effect.gen(function*() {
    const present = yield* ConfigProvider.ConfigProvider
    const own = options?.transform ?? ((store: ConfigProvider.ConfigProvider) => store)
    const transform: Options["transform"] = options?.asPrimary === true
      ? (store) => ConfigProvider.orElse(own(store), present)
      : (store) => ConfigProvider.orElse(present, own(store))
    return yield* contextOf(yield* make(prefix, { ...options, transform }))
  }))

const contextOf = (config: KvConfig): Effect.Effect<Context.Context<KvConfig>> =>
  Effect.map(
    config.provider,
    (provider) => Context.make(KvConfig, config).pipe(Context.add(ConfigProvider.ConfigProvider, provider))
  )

/**
 * Replaces the `ConfigProvider` by one of the newest revision known when this layer is built.
 *
 * **When to use**
 *
 * Below a layer that reads its own config and is rebuilt when that changes.
 *
 * @example
 * ```ts
 * import { Kv, KvConfig } from "@effect-kv/core"
 * import { Config, Effect, Stream } from "effect"
 *
 * const limit = Config.Int("limit")
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("config/limit", "10")
 *   yield* Effect.gen(function*() {
 *     yield* Kv.put("config/limit", "20")
 *     yield* Stream.runDrain(Stream.takeUntil(KvConfig.changes(limit), (now) => now === 20))
 *     const atStart = yield* limit // => 10
 *     const newest = yield* Effect.provide(limit, KvConfig.layerNewest) // => 20
 *   }).pipe(Effect.provide(KvConfig.layer("config/")))
 * })
 * ```
 *
 * @since 0.1.0
 */
export const layerNewest: Layer.Layer<never, never, KvConfig> = ConfigProvider.layer(
  Effect.flatMap(KvConfig, (config) => config.provider)
)

/**
 * Parses the config, at the newest revision known. No round trip.
 *
 * **Details**
 *
 * Fails if that configuration does not parse. {@link ref} keeps the last good value instead.
 *
 * @example
 * ```ts
 * import { Kv, KvConfig } from "@effect-kv/core"
 * import { Config, Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("config/limit", "10")
 *   const limit = yield* Effect.provide(KvConfig.get(Config.Int("limit")), KvConfig.layer("config/")) // => 10
 * })
 * ```
 *
 * @since 0.1.0
 */
export const get = <A>(config: Config.Config<A>): Effect.Effect<A, Config.ConfigError, KvConfig> =>
  Effect.flatMap(KvConfig, (service) => service.get(config))

/**
 * The good values of the config: the one now, then one after each change of what the config reads.
 *
 * **Details**
 *
 * Fails only at first, if the configuration does not parse then. A later one that does not parse is skipped and logged
 * as a warning. A slow reader skips to the newest. The stream ends when the configuration is no longer followed.
 *
 * @example
 * ```ts
 * import { Kv, KvConfig } from "@effect-kv/core"
 * import { Config, Effect, Stream } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("config/limit", "10")
 *   const limits = KvConfig.changes(Config.Int("limit")).pipe(
 *     Stream.tap((limit) => limit === 10 ? Kv.put("config/limit", "20") : Effect.void),
 *     Stream.take(2),
 *     Stream.runCollect
 *   )
 *   const seen = yield* Effect.provide(limits, KvConfig.layer("config/")) // => [10, 20]
 * })
 * ```
 *
 * @since 0.1.0
 */
export const changes = <A>(config: Config.Config<A>): Stream.Stream<A, Config.ConfigError, KvConfig> =>
  Stream.unwrap(Effect.map(KvConfig, (service) => service.changes(config)))

/**
 * The config's value, kept current until the scope closes.
 *
 * **Details**
 *
 * Fails if the configuration does not parse now. After that nothing fails: the last good value stays in use, one warning
 * for each problem is logged, and `state` says what is wrong. A message names the path of the setting and what was
 * expected, and contains no part of the value.
 *
 * @example
 * ```ts
 * import { Kv, KvConfig } from "@effect-kv/core"
 * import { Config, Effect, Option, Stream } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("config/limit", "10")
 *   yield* Effect.gen(function*() {
 *     const limit = yield* KvConfig.ref(Config.Int("limit"))
 *     yield* Kv.put("config/limit", "many")
 *     const bad = yield* limit.states.pipe(Stream.filter(({ rejected }) => Option.isSome(rejected)), Stream.runHead)
 *     const message = Option.map(Option.getOrThrow(bad).rejected, ({ message }) => message)
 *     message // => Option.some("limit: expected a string representing a finite number")
 *     yield* limit.get // => 10
 *   }).pipe(Effect.scoped, Effect.provide(KvConfig.layer("config/")))
 * })
 * ```
 *
 * @since 0.1.0
 */
export const ref = <A>(
  config: Config.Config<A>
): Effect.Effect<Live<A>, Config.ConfigError, KvConfig | Scope.Scope> =>
  Effect.flatMap(KvConfig, (service) => service.ref(config))
