/**
 * The endpoints of a cluster and which of them to use.
 *
 * One is preferred, and stays so until it fails. One that failed is left alone for a while, as long as there are others.
 * Each has its own channels, so that trouble with one cannot touch calls to another.
 */
import * as grpc from "@grpc/grpc-js"
import { noop } from "cockatiel"
import * as Effect from "effect/Effect"
import { Host } from "etcd3/lib/connection-pool.js"
import type { Settings } from "../settings.ts"
import { bytesReceived, closeChannel, destroyChannel } from "./closeChannel.ts"
import * as call from "./grpcCall.ts"
import type { Active } from "./grpcCall.ts"
import { type Line, Link, Traffic } from "./link.ts"
import type { AuthService, KvService, LeaseService, MaintenanceService, WatchService } from "./services.ts"

/** A connection to one member: the services on it. */
export interface ServiceLine extends Line {
  /** Of its endpoint, as it was given, such as `http://127.0.0.1:2379`. */
  readonly address: string
  readonly kv: KvService
  readonly lease: LeaseService
  readonly auth: AuthService
  readonly maintenance: MaintenanceService
  readonly watch: WatchService
  /** Whether it is connected, or known to be unreachable: whether a request would not have to wait. */
  readonly isSettled: () => boolean
  readonly close: () => void
}

/** The connections of an endpoint. */
export type LinkName = "calls" | "watches" | "wholeWatches"

const linkNames: ReadonlyArray<LinkName> = ["calls", "watches", "wholeWatches"]

/** One member of the cluster, or what stands before it. */
export interface Endpoint {
  /** As it was given, such as `http://127.0.0.1:2379`. */
  readonly address: string
  readonly calls: Link<ServiceLine>
  /** Watches have a connection of their own, so that a long catch-up holds up neither answers to calls nor the renewal of leases. */
  readonly watches: Link<ServiceLine>
  /** As `watches`, for responses of any size. Connected only if it is used. */
  readonly wholeWatches: Link<ServiceLine>
  readonly close: () => void
  /** Until when it is left alone while there are others, in milliseconds of the monotonic clock. */
  suspendedUntil: number
  /** How often it failed since it last answered. */
  failures: number
  /** When it last answered, in milliseconds of the monotonic clock. */
  answeredAt: number
}

export interface Endpoints {
  readonly all: ReadonlyArray<Endpoint>
  /** The endpoint with that address, which must be one of them. */
  readonly at: (address: string) => Endpoint
  /** The endpoint to use now; one of `avoid` only if there is no other. */
  readonly choose: (now: number, avoid?: ReadonlySet<string>) => Endpoint
  readonly succeeded: (endpoint: Endpoint, now: number) => void
  readonly failed: (endpoint: Endpoint, now: number, reason: string) => void
}

/** How long a failed endpoint is left alone, at first and at most, in milliseconds. */
const suspension = { first: 500, longest: 10_000 }

/** Is told when an endpoint goes down, with the reason, and when it answers again, with `undefined`. */
export type OnChange = (endpoint: Endpoint, reason: string | undefined) => void

/** Decides which of the endpoints to use, beginning with the `first`. */
export const make = (all: ReadonlyArray<Endpoint>, first: number, onChange: OnChange = () => {}): Endpoints => {
  let preferred = first
  const suspended = (endpoint: Endpoint, now: number): number =>
    endpoint.suspendedUntil > now ? endpoint.suspendedUntil : 0
  return {
    all,
    at: (address) => all.find((endpoint) => endpoint.address === address)!,
    choose: (now, avoid) => {
      const current = all[preferred]!
      if (current.suspendedUntil <= now && avoid?.has(current.address) !== true) return current
      const ranked = all.map((endpoint, index) => ({
        endpoint,
        avoided: avoid?.has(endpoint.address) === true ? 1 : 0,
        until: suspended(endpoint, now),
        distance: (index - preferred + all.length) % all.length
      }))
      ranked.sort((a, b) => a.avoided - b.avoided || a.until - b.until || a.distance - b.distance)
      return ranked[0]!.endpoint
    },
    succeeded: (endpoint, now) => {
      if (endpoint.failures > 0) onChange(endpoint, undefined)
      endpoint.failures = 0
      endpoint.suspendedUntil = 0
      endpoint.answeredAt = now
      if (all[preferred]!.suspendedUntil > now) preferred = all.indexOf(endpoint)
    },
    failed: (endpoint, now, reason) => {
      // Calls that fail together are one failure.
      if (endpoint.suspendedUntil > now) return
      endpoint.suspendedUntil = now + Math.min(suspension.first * 2 ** endpoint.failures, suspension.longest)
      if (endpoint.failures === 0) onChange(endpoint, reason)
      endpoint.failures += 1
    }
  }
}

/** What endpoints are opened with. */
export interface OpenOptions {
  readonly now: () => number
  readonly active: Active
  /** Is told once for each time that a connection to the endpoint is silent, and that it was replaced. */
  readonly onSilent: (endpoint: Endpoint) => Effect.Effect<void>
  readonly onReplaced: (endpoint: Endpoint) => Effect.Effect<void>
}

/** Opens the endpoints' channels. Nothing is connected before it is used. */
export const open = (settings: Settings, options: OpenOptions): ReadonlyArray<Endpoint> =>
  settings.endpoints.map((address) => openOne(address, settings, options))

const openOne = (address: string, settings: Settings, options: OpenOptions): Endpoint => {
  const channel = channelOptions(settings)
  const link = (channel: grpc.ChannelOptions, onReplaced: Effect.Effect<void>): Link<ServiceLine> =>
    new Link({
      now: options.now,
      open: () => openLine(address, settings, options, channel),
      onSilent: Effect.suspend(() => options.onSilent(endpoint)),
      onReplaced: Effect.andThen(Effect.suspend(() => options.onReplaced(endpoint)), onReplaced)
    })
  // Whatever dropped one connection has likely dropped the others.
  const doubtAllBut = (replaced: LinkName) =>
    Effect.sync(() => {
      for (const name of linkNames) if (name !== replaced) endpoint[name].doubt()
    })
  const endpoint: Endpoint = {
    address,
    calls: link(channel, doubtAllBut("calls")),
    watches: link({ ...channel, ...watchOptions }, doubtAllBut("watches")),
    wholeWatches: link(channel, doubtAllBut("wholeWatches")),
    close: () => {
      endpoint.calls.current.close()
      endpoint.watches.current.close()
      endpoint.wholeWatches.current.close()
    },
    suspendedUntil: 0,
    failures: 0,
    answeredAt: Number.NEGATIVE_INFINITY
  }
  return endpoint
}

/** Opens one connection, which is made when it is used. */
export const openLine = (
  address: string,
  settings: Settings,
  { active, now }: Pick<OpenOptions, "active" | "now">,
  options: grpc.ChannelOptions = channelOptions(settings)
): ServiceLine => {
  const { credentials } = settings
  // With its scheme, since a host may have the name of one.
  const channel = new grpc.Channel(address.replace(/^https?:\/\//, "dns:"), credentials, options)
  const host = new Host(address, credentials, { ...options, channelOverride: channel }, noop)
  const kv = host.getServiceClient("KV") as KvService
  return {
    address,
    kv,
    lease: host.getServiceClient("Lease") as LeaseService,
    auth: host.getServiceClient("Auth") as AuthService,
    maintenance: host.getServiceClient("Maintenance") as MaintenanceService,
    watch: host.getServiceClient("Watch") as WatchService,
    traffic: new Traffic(now),
    ...watchReadiness(channel),
    isConnected: () => channel.getConnectivityState(false) === grpc.connectivityState.READY,
    ping: call.ping(kv, active),
    received: () => bytesReceived(channel),
    close: () => closeChannel(channel),
    destroy: () => destroyChannel(channel)
  }
}

/**
 * A watch that catches up is sent up to 1000 revisions in one message, however large they are. Above this limit it goes to
 * a stream of its own (see `watchPool.ts`). With 128 events of 150 bytes a revision such a message is 19 MiB.
 */
const watchOptions: grpc.ChannelOptions = { "grpc.max_receive_message_length": 24 * 1024 * 1024 }

/** The options of an endpoint's channels. */
export const channelOptions = (settings: Settings): grpc.ChannelOptions => ({
  // What is repeated is decided here, where it is known what may be.
  "grpc.enable_retries": 0,
  // etcd limits requests, not answers.
  "grpc.max_receive_message_length": -1,
  "grpc.max_send_message_length": -1,
  "grpc.keepalive_time_ms": settings.keepAlive.time,
  "grpc.keepalive_timeout_ms": settings.keepAlive.timeout,
  "grpc.initial_reconnect_backoff_ms": 250,
  "grpc.max_reconnect_backoff_ms": 3000,
  // Service configs come by DNS TXT records, for which no etcd cluster has a use.
  "grpc.service_config_disable_resolution": 1,
  "grpc.enable_channelz": 0,
  // A connection of its own, which ends with the client.
  "grpc.use_local_subchannel_pool": 1,
  ...(settings.serverName === undefined ? {} : {
    "grpc.ssl_target_name_override": settings.serverName,
    "grpc.default_authority": settings.serverName
  })
})

/**
 * Tells when a channel is connected or has failed to.
 *
 * One watch of the channel serves all who wait, because grpc-js has no way to end one. A channel that was shut down must
 * not be asked to connect: it would come to life again.
 */
const watchReadiness = (channel: grpc.Channel): Pick<ServiceLine, "settle" | "isSettled"> => {
  const waiting = new Set<() => void>()
  let watching = false
  const isSettled = (): boolean => {
    if (isFinal(channel.getConnectivityState(false))) return true
    channel.getConnectivityState(true)
    return false
  }
  const watch = (): void => {
    if (watching) return
    watching = true
    channel.watchConnectivityState(channel.getConnectivityState(false), Infinity, () => {
      watching = false
      if (!isSettled()) return watch()
      const settled = [...waiting]
      waiting.clear()
      for (const resume of settled) resume()
    })
  }
  const settle = Effect.callback<void>((resume) => {
    if (isSettled()) return resume(Effect.void)
    const onSettled = (): void => resume(Effect.void)
    waiting.add(onSettled)
    watch()
    return Effect.sync(() => void waiting.delete(onSettled))
  })
  return { settle, isSettled }
}

const isFinal = (state: grpc.connectivityState): boolean =>
  state !== grpc.connectivityState.IDLE && state !== grpc.connectivityState.CONNECTING
