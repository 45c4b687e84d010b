/**
 * An endpoint as the labels of metrics and the attributes of spans name it.
 */
import * as Option from "effect/Option"
import * as Target from "../../grpc/target.ts"

/** `port` is undefined for a Unix socket. */
export interface ServerAddress {
  readonly address: string
  readonly port: number | undefined
}

const known = new Map<string, ServerAddress>()

/** The most addresses that are remembered. A client seldom has more than a few. */
const maxKnown = 1000

/** The host and port of an endpoint's URL. */
export const of = (url: string): ServerAddress => {
  const existing = known.get(url)
  if (existing !== undefined) return existing
  const parsed = Option.match(Target.fromUrl(url), {
    onNone: (): ServerAddress => ({ address: url, port: undefined }),
    onSome: (target): ServerAddress =>
      target._tag === "Unix"
        ? { address: target.path, port: undefined }
        : { address: target.host, port: target.port }
  })
  if (known.size >= maxKnown) known.clear()
  known.set(url, parsed)
  return parsed
}

/** The labels of a metric. */
export const labels = (url: string): Readonly<Record<string, string>> => {
  const { address, port } = of(url)
  return port === undefined ? { "server.address": address } : { "server.address": address, "server.port": `${port}` }
}
