/**
 * The target of a channel: a host and port, or a Unix socket, with or without TLS.
 */
import * as Option from "effect/Option"
import { isIP } from "node:net"

export type Target = HostTarget | UnixTarget

export interface HostTarget {
  readonly _tag: "Host"
  /** A name, or an IP address without brackets. */
  readonly host: string
  readonly port: number
  readonly secure: boolean
}

export interface UnixTarget {
  readonly _tag: "Unix"
  readonly path: string
  readonly secure: boolean
}

/** The target of `http(s)://host:port` or `unix(s)://path`, and `none` for other text. */
export const fromUrl = (url: string): Option.Option<Target> => {
  const [, scheme, rest] = /^([a-z]+):\/\/(.+)$/is.exec(url) ?? []
  switch (scheme?.toLowerCase()) {
    case "http":
    case "https":
      return hostAndPort(rest!, scheme!.toLowerCase() === "https")
    case "unix":
    case "unixs":
      return Option.some({ _tag: "Unix", path: rest!, secure: scheme!.toLowerCase() === "unixs" })
    default:
      return Option.none()
  }
}

const hostAndPort = (text: string, secure: boolean): Option.Option<Target> => {
  const [, bracketed, name, digits] = /^(?:\[([0-9a-f:.]+(?:%[^\]]+)?)\]|([^[\]:/?#@\s]+)):(\d{1,5})\/?$/i.exec(text) ??
    []
  const host = bracketed ?? name
  const port = Number(digits)
  if (host === undefined || port === 0 || port > 65535 || bracketed !== undefined && isIP(bracketed) !== 6) {
    return Option.none()
  }
  return Option.some({ _tag: "Host", host, port, secure })
}

/** The `:authority` of requests. */
export const authority = (target: Target, serverName: string | undefined): string => {
  if (serverName !== undefined) return serverName
  if (target._tag === "Unix") return "localhost"
  const { host, port } = target
  return isIP(host) === 6 ? `[${host.replace(/%.*$/s, "")}]:${port}` : `${host}:${port}`
}

/** The target's name in messages. */
export const format = (target: Target): string => target._tag === "Unix" ? target.path : authority(target, undefined)
