/**
 * Opens a store by URL, so that the environment decides at run time which it is.
 *
 * `KvUrl.layer(url, { mem: MemoryLayer.fromUrl, http: EtcdLayer.fromUrl, https: EtcdLayer.fromUrl })`: an application
 * brings the backends it wants to be able to open, by scheme.
 */
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as KvError from "../values/KvError.ts"
import { Kv } from "./Kv.ts"

/** Opens the URLs of one scheme. A malformed one is an `InvalidRequest`. */
export type Open<out E = KvError.KvError> = (url: string) => Layer.Layer<Kv, E>

/**
 * The layer of the store that the URL names.
 *
 * Fails with `InvalidRequest` where the text is not a URL or its scheme is not among `schemes`. The message never repeats
 * the URL, which may hold a password.
 */
export const layer = <E>(url: string, schemes: Record<string, Open<E>>): Layer.Layer<Kv, E | KvError.KvError> => {
  const known = Object.keys(schemes).sort().map((scheme) => `${scheme}:`).join(", ")
  const scheme = /^([a-zA-Z][a-zA-Z0-9+.-]*):/.exec(url)?.[1]?.toLowerCase()
  if (scheme === undefined) {
    return invalid(`the URL of a store must begin with a scheme, one of ${known}`)
  }
  return Object.hasOwn(schemes, scheme)
    ? schemes[scheme]!(url)
    : invalid(`no backend is given for the scheme "${scheme}:"; there are ${known}`)
}

/** The layer of the store that a configured URL names, such as `Config.String("KV_URL")`. */
export const layerConfig = <E>(
  url: Config.Config<string>,
  schemes: Record<string, Open<E>>
): Layer.Layer<Kv, E | KvError.KvError | Config.ConfigError> =>
  Layer.unwrap(Effect.map(url, (url) => layer(url, schemes)))

const invalid = (message: string): Layer.Layer<Kv, KvError.KvError> =>
  Layer.effect(Kv, KvError.fail(new KvError.InvalidRequest({ message })))
