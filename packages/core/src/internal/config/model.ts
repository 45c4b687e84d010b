/**
 * Live configuration as values: the types that the `KvConfig` module and its implementation share.
 */
import type * as Config from "effect/Config"
import type * as ConfigProvider from "effect/ConfigProvider"
import type * as DateTime from "effect/DateTime"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"

/**
 * The configuration under a prefix, followed as it changes.
 *
 * @since 0.1.0
 */
export interface KvConfig {
  /** The prefix of its keys. */
  readonly prefix: string
  /** A provider of the newest revision known. It stays at that revision, so all that it loads belongs together. */
  readonly provider: Effect.Effect<ConfigProvider.ConfigProvider>
  /** Parses the config, at the newest revision known. No round trip. */
  readonly get: <A>(config: Config.Config<A>) => Effect.Effect<A, Config.ConfigError>
  /** The good values of the config: the one now, then each that differs from the one before. */
  readonly changes: <A>(config: Config.Config<A>) => Stream.Stream<A, Config.ConfigError>
  /** The config's value, kept current until the scope closes. */
  readonly ref: <A>(config: Config.Config<A>) => Effect.Effect<Live<A>, Config.ConfigError, Scope.Scope>
}

/**
 * A value of the configuration that is kept current. None of its parts fails, whatever happens to the store.
 *
 * @since 0.1.0
 */
export interface Live<out A> {
  /** The last good value. No round trip. */
  readonly get: Effect.Effect<A>
  /**
   * The last good value, then each that differs from the one before. A slow reader skips to the newest. Ends when the
   * configuration is no longer followed, because its scope or the client closed.
   */
  readonly changes: Stream.Stream<A>
  /** The last good value, and whether it is the newest. */
  readonly state: Effect.Effect<State<A>>
  /** The state now, then after each change of it. A slow reader skips to the newest. Ends as `changes` does. */
  readonly states: Stream.Stream<State<A>>
}

/**
 * A value of the configuration, and what is known about it.
 *
 * **Gotchas**
 *
 * Printing a state does not show its value, which may be a secret.
 *
 * @since 0.1.0
 */
export interface State<out A> {
  /** The last good value. */
  readonly value: A
  /** The newest revision of the configuration at which this was the value. */
  readonly revision: bigint
  /** Why a newer configuration is not in use; `none` if the value is that of the newest. */
  readonly rejected: Option.Option<Rejected>
  /** Since when newer configurations may be missed, because the client is cut off from the store; `none` if it is not. */
  readonly staleSince: Option.Option<DateTime.Utc>
}

/**
 * A configuration that could not be used.
 *
 * @since 0.1.0
 */
export interface Rejected {
  /** The revision of the newest configuration. */
  readonly revision: bigint
  /** What is wrong, with the path of the setting and without any part of its value. */
  readonly message: string
  /** Since when no configuration was good, by this client's clock. */
  readonly since: DateTime.Utc
}

/**
 * Options of a configuration.
 *
 * @since 0.1.0
 */
export interface Options {
  /**
   * Makes the provider that configs are parsed with from that of the store. For example, `ConfigProvider.constantCase`,
   * or a combination of two folders. It is called once for each revision. Default: the store's.
   */
  readonly transform?: ((store: ConfigProvider.ConfigProvider) => ConfigProvider.ConfigProvider) | undefined
  /** True: an empty value is the empty string. Default: false; it counts as missing, as in Effect's own providers. */
  readonly preserveEmptyStrings?: boolean | undefined
}
