/**
 * Stores by URL, so that configuration decides which store a program uses.
 *
 * The application names the backends that it can open, by scheme: `KvUrl.layer(url, { mem: MemoryLayer.fromUrl, http:
 * EtcdLayer.fromUrl, https: EtcdLayer.fromUrl })`.
 */
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as KvError from "../values/KvError.ts"
import { Kv } from "./Kv.ts"

/**
 * Opens the URLs of one scheme. A malformed URL is an `InvalidRequest`.
 *
 * @since 0.1.0
 */
export type Open<out E = KvError.KvError> = (url: string) => Layer.Layer<Kv, E>

/**
 * Provides `Kv` from the store that the URL names.
 *
 * Fails with `InvalidRequest` if the text is not a URL or if its scheme is not among `schemes`. The message never
 * repeats the URL, which may hold a password.
 *
 * @example
 * ```ts
 * import { Kv, KvUrl } from "@effect-kv/core"
 * import { EtcdLayer } from "@effect-kv/etcd"
 * import { MemoryLayer } from "@effect-kv/memory"
 * import { Effect } from "effect"
 *
 * const Live = KvUrl.layer("mem:", { mem: MemoryLayer.fromUrl, http: EtcdLayer.fromUrl })
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("greeting", "hello")
 *   yield* Kv.get("greeting") // => Option.some("hello")
 * }).pipe(Effect.provide(Live))
 * ```
 *
 * @since 0.1.0
 */
export const layer = <E>(url: string, schemes: Record<string, Open<E>>): Layer.Layer<Kv, E | KvError.KvError> => {
  const known = Object.keys(schemes).sort().map((scheme) => `${scheme}:`).join(", ")
  const scheme = /^([a-zA-Z][a-zA-Z0-9+.-]*):/.exec(url)?.[1]?.toLowerCase()
  if (scheme === undefined) {
    return invalid(`the URL of a store must begin with a scheme, one of ${known}`)
  }
  return Object.hasOwn(schemes, scheme)
    ? schemes[scheme]!(url)
    : invalid(`no backend is given for the scheme "${scheme}:"; the known schemes are ${known}`)
}

/**
 * Provides `Kv` from the store that a configured URL names.
 *
 * @example
 * ```ts
 * import { Kv, KvUrl } from "@effect-kv/core"
 * import { MemoryLayer } from "@effect-kv/memory"
 * import { Config, ConfigProvider, Effect, Layer } from "effect"
 *
 * const Live = KvUrl.layerConfig(Config.String("KV_URL"), { mem: MemoryLayer.fromUrl }).pipe(
 *   Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown({ KV_URL: "mem:" })))
 * )
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("greeting", "hello")
 *   yield* Kv.get("greeting") // => Option.some("hello")
 * }).pipe(Effect.provide(Live))
 * ```
 *
 * @since 0.1.0
 */
export const layerConfig = <E>(
  url: Config.Config<string>,
  schemes: Record<string, Open<E>>
): Layer.Layer<Kv, E | KvError.KvError | Config.ConfigError> =>
  Layer.unwrap(Effect.map(url, (url) => layer(url, schemes)))

const invalid = (message: string): Layer.Layer<Kv, KvError.KvError> =>
  Layer.effect(Kv, KvError.fail(new KvError.InvalidRequest({ message })))
