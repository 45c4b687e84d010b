/**
 * The endpoints of a cluster, and the choice of the one to use.
 *
 * One endpoint is preferred until it fails. An endpoint that failed is suspended for a while, as long as there are
 * others.
 */
import type { Channels } from "./channels.ts"

/** One member of the cluster, or a proxy in front of it. */
export interface Endpoint {
  /** The address from the options, such as `http://127.0.0.1:2379`. */
  readonly address: string
  readonly channels: Channels
  /** The end of the suspension, in milliseconds of the monotonic clock. */
  suspendedUntil: number
  /** How many times it has failed since its last response. */
  failures: number
  /** The time of its last response, in milliseconds of the monotonic clock. */
  respondedAt: number
  /** Whether a later list of endpoints does not contain it. Its calls in flight end normally. */
  isRemoved: boolean
}

/** An endpoint without failures and responses. */
export const endpoint = (address: string, channels: Channels): Endpoint => ({
  address,
  channels,
  suspendedUntil: 0,
  failures: 0,
  respondedAt: Number.NEGATIVE_INFINITY,
  isRemoved: false
})

export interface Endpoints {
  /** The current endpoints, at least one. */
  readonly all: () => ReadonlyArray<Endpoint>
  /** The current endpoint with this address. */
  readonly at: (address: string) => Endpoint | undefined
  /** Replaces the endpoints. If the preferred one is removed, the one at index `next` takes its place. */
  readonly replace: (all: ReadonlyArray<Endpoint>, next: number) => void
  /** The endpoint to use now. It is one of `avoid` only if there is no other. */
  readonly choose: (now: number, avoid?: ReadonlyArray<string>) => Endpoint
  readonly succeeded: (endpoint: Endpoint, now: number) => void
  /** `reconnect`: its address may lead to other members too, so that new connections are opened. */
  readonly failed: (endpoint: Endpoint, now: number, reason: string, reconnect?: boolean) => void
}

/** The suspension of a failed endpoint in milliseconds: `first`, doubling up to `longest`. */
const suspension = { first: 500, longest: 10_000 }

/** Called with the reason when an endpoint goes down, and with `undefined` when it responds again. */
export type OnChange = (endpoint: Endpoint, reason: string | undefined) => void

/** Makes the choice of endpoints, which begins with the endpoint at index `first`. */
export const make = (initial: ReadonlyArray<Endpoint>, first: number, onChange: OnChange = () => {}): Endpoints => {
  let all = initial
  let preferred = initial[first]!
  const suspended = (endpoint: Endpoint, now: number): number =>
    endpoint.suspendedUntil > now ? endpoint.suspendedUntil : 0
  return {
    all: () => all,
    at: (address) => all.find((endpoint) => endpoint.address === address),
    replace: (replacement, next) => {
      for (const endpoint of all) if (!replacement.includes(endpoint)) endpoint.isRemoved = true
      all = replacement
      if (preferred.isRemoved) preferred = all[next]!
    },
    choose: (now, avoid) => {
      if (preferred.suspendedUntil <= now && avoid?.includes(preferred.address) !== true) return preferred
      const index = all.indexOf(preferred)
      const ranked = all.map((endpoint, i) => ({
        endpoint,
        avoided: avoid?.includes(endpoint.address) === true ? 1 : 0,
        until: suspended(endpoint, now),
        distance: (i - index + all.length) % all.length
      }))
      ranked.sort((a, b) => a.avoided - b.avoided || a.until - b.until || a.distance - b.distance)
      return ranked[0]!.endpoint
    },
    succeeded: (endpoint, now) => {
      if (endpoint.isRemoved) return
      if (endpoint.failures > 0) onChange(endpoint, undefined)
      endpoint.failures = 0
      endpoint.suspendedUntil = 0
      endpoint.respondedAt = now
      if (preferred.suspendedUntil > now) preferred = endpoint
    },
    failed: (endpoint, now, reason, reconnect = false) => {
      // Calls that fail together count as one failure.
      if (endpoint.isRemoved || endpoint.suspendedUntil > now) return
      if (reconnect) { for (const channel of Object.values(endpoint.channels)) channel.reconnect() }
      endpoint.suspendedUntil = now + Math.min(suspension.first * 2 ** endpoint.failures, suspension.longest)
      if (endpoint.failures === 0) onChange(endpoint, reason)
      endpoint.failures += 1
    }
  }
}
