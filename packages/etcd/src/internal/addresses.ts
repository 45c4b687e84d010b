/**
 * The addresses of endpoints: what is valid, when two are the same, and which ones stay on this machine.
 *
 * No message of this module repeats its input, because a URL may contain a password.
 */
import * as Option from "effect/Option"
import { isIP } from "node:net"
import * as Target from "../grpc/target.ts"

/** Schemes and hosts are case-insensitive. Socket paths are not. */
export const normalized = (endpoint: string): string =>
  isUnix(endpoint)
    ? endpoint.replace(/^[^:]*/, (scheme) => scheme.toLowerCase())
    : endpoint.replace(/\/$/, "").toLowerCase()

const isUnix = (endpoint: string): boolean => /^unixs?:/i.test(endpoint)

/** Whether the endpoint uses TLS. */
export const isSecure = (endpoint: string): boolean => /^(https|unixs):/i.test(endpoint)

/** The problem of a list of endpoints, if it has one. */
export const listProblem = (endpoints: ReadonlyArray<string>): string | undefined => {
  if (endpoints.length === 0) return "endpoints is empty; give at least one such as http://127.0.0.1:2379"
  const problem = endpoints.map(problemOf).find((problem) => problem !== undefined)
  if (problem !== undefined) return problem
  const secure = endpoints.filter(isSecure).length
  return secure === 0 || secure === endpoints.length
    ? undefined
    : "endpoints mixes http and https; all must be of one scheme"
}

/** The problem of the endpoint at this index, if it has one. */
export const problemOf = (endpoint: string, index: number): string | undefined => {
  const problem = (text: string): string =>
    `endpoints[${index}] ${text}; an endpoint is http(s)://host:port or unix(s)://path`
  if (isUnix(endpoint)) {
    return Option.isSome(Target.fromUrl(endpoint)) ? undefined : problem("has no socket path")
  }
  const rest = /^https?:\/\/(.*)$/is.exec(endpoint)?.[1]?.replace(/\/$/, "")
  if (rest === undefined) return problem("does not begin with http:// or https://")
  if (rest.includes("@")) return problem("contains a user name, which belongs in `auth`")
  return hostProblem(rest, problem) ??
    (Option.isSome(Target.fromUrl(endpoint)) ? undefined : problem("has no valid host"))
}

/** The problem of a `host:port`, if it has one. */
const hostProblem = (address: string, problem: (text: string) => string): string | undefined => {
  const [, host, port] = /^(\[[0-9a-fA-F:.]+\]|[^[\]:/?#\s]+)(?::(.*))?$/s.exec(address) ?? []
  if (host === undefined) return problem("has no valid host, or more than a host and a port")
  if (port === undefined) return problem("has no port")
  return /^\d{1,5}$/.test(port) && Number(port) > 0 && Number(port) < 65536 ? undefined : problem("has no valid port")
}

/** Whether the address leads to the machine that uses it: a loopback or unspecified address, or a Unix socket. */
export const isLocal = (endpoint: string): boolean => {
  const target = Option.getOrUndefined(Target.fromUrl(endpoint))
  if (target === undefined) return false
  if (target._tag === "Unix") return true
  const host = target.host.toLowerCase()
  if (isIP(host) === 4) return /^(127|0)\./.test(host)
  if (isIP(host) === 6) return isLocalIPv6(host)
  return host === "localhost" || host.endsWith(".localhost")
}

/** `::`, `::1`, and local IPv4 addresses written as IPv6 addresses. */
const isLocalIPv6 = (host: string): boolean => {
  // A URL has the shortest form of the address.
  const short = new URL(`http://[${host.replace(/%.*$/s, "")}]`).hostname
  return /^\[::1?\]$|^\[::ffff:(7f[0-9a-f]{2}|0):/.test(short)
}
