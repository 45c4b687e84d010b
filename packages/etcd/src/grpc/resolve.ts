/**
 * The addresses of a target, in the order of the attempts.
 */
import * as Effect from "effect/Effect"
import * as Dns from "node:dns"
import { isIP } from "node:net"
import type { HostTarget } from "./target.ts"
import type { Address } from "./Transport.ts"

export type Resolve = (host: string) => Effect.Effect<ReadonlyArray<Address>, string>

/** The system's resolver, which also knows `/etc/hosts`. */
export const system: Resolve = (host) =>
  Effect.tryPromise({
    try: () => Dns.promises.lookup(host, { all: true, order: "verbatim" }),
    catch: (error) => `${host} cannot be resolved: ${(error as Error).message}`
  })

/**
 * Resolves the host of a target, unless it is an address.
 *
 * If the resolver fails, its last addresses are used: a resolver that is down must not keep the
 * client from a server that is up.
 */
export const addresses = (
  { host }: HostTarget,
  resolve: Resolve,
  last: ReadonlyArray<Address>
): Effect.Effect<ReadonlyArray<Address>, string> => {
  const family = isIP(host)
  if (family !== 0) return Effect.succeed([{ address: host, family }])
  return resolve(host).pipe(
    Effect.filterOrFail((found) => found.length > 0, () => `${host} has no address`),
    Effect.catch((problem) => last.length > 0 ? Effect.succeed(last) : Effect.fail(problem))
  )
}

/** Alternates between IPv4 and IPv6, in case one of them does not work, and puts the address to avoid last. */
export const order = (found: ReadonlyArray<Address>, avoid: string | undefined): ReadonlyArray<Address> => {
  const first = found.filter(({ family }) => family === found[0]?.family)
  const second = found.filter(({ family }) => family !== found[0]?.family)
  const alternating = Array.from(
    { length: Math.max(first.length, second.length) },
    (_, i) => [first[i], second[i]]
  ).flat().filter((address) => address !== undefined)
  return [
    ...alternating.filter(({ address }) => address !== avoid),
    ...alternating.filter(({ address }) => address === avoid)
  ]
}
