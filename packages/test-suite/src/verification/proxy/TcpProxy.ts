/**
 * A TCP proxy on the loopback, between a client and a server, with faults that are switched on and off while it runs.
 *
 * It works on connections, bytes and directions, whatever the protocol (TLS passes through). Packet loss is simulated by
 * holding bytes back, because TCP would retransmit them. Bytes that are dropped here are lost for good, and their
 * connection is cut when the fault ends. Timing is in real time, whichever clock the test uses.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { freePort, releasePort } from "../internal/ports.ts"
import { realTime } from "../internal/realTime.ts"
import type { Address } from "./connection.ts"
import { close, Link, listen, stopListening, TcpProxyError } from "./link.ts"
import { type Direction, directionsOf, type OneShotFault } from "./linkFaults.ts"

export { TcpProxyError }
export type { Direction } from "./linkFaults.ts"

/**
 * Counters since the proxy was created.
 *
 * @since 0.1.0
 */
export interface Stats {
  /** Connections opened by clients. */
  readonly opened: number
  /** Connections whose client side is open. */
  readonly live: number
  /** Bytes forwarded to the server. */
  readonly bytesToServer: number
  /** Bytes forwarded to clients. */
  readonly bytesToClient: number
  /** How often a fault took effect: on a connection that it cut or silenced, or a chunk that it lost, delayed or slowed. */
  readonly struck: number
}

/**
 * Chooses the chunk that a fault strikes.
 *
 * @since 0.1.0
 */
export interface When {
  /** True for the chunk to strike. Default: the first chunk. A chunk is the result of one read from the socket. */
  readonly when?: ((chunk: Uint8Array) => boolean) | undefined
}

/**
 * A fault that strikes once.
 *
 * @since 0.1.0
 */
export interface Armed {
  /** Waits until it has struck. */
  readonly struck: Effect.Effect<void>
}

/**
 * A running proxy, and the faults of its link.
 *
 * @since 0.1.0
 */
export interface TcpProxy {
  readonly port: number
  /** With the scheme of the target, `http://127.0.0.1:PORT` if it was a port. */
  readonly endpoint: string
  readonly stats: Effect.Effect<Stats>
  /** Destroys all live connections; new ones are accepted. */
  readonly cut: Effect.Effect<void>
  /** Destroys all live connections and refuses new ones. */
  readonly down: Effect.Effect<void>
  /** Accepts connections again. */
  readonly up: Effect.Effect<void, TcpProxyError>
  /**
   * Forwards nothing, not even the close of a side. Connections are accepted and stay open.
   *
   * **Details**
   *
   * Bytes are held back and forwarded when the fault ends, as after a network outage. With `drop` they are lost, and
   * connections that lost bytes are cut when the fault ends.
   */
  readonly blackhole: (options?: {
    readonly direction?: Direction | "both" | undefined
    readonly drop?: boolean | undefined
  }) => Effect.Effect<void>
  /** Forwards requests and drops responses: the server executes requests, and the client never learns of it. */
  readonly dropResponses: Effect.Effect<void>
  /**
   * Once: forwards the chosen chunk to the server, then cuts its client off before a response.
   *
   * **Details**
   *
   * The server side stays open for `linger` (default: 1 second), so that the server executes the request. With 0 it is
   * closed as soon as the chunk is sent, and the server may abort the request. With `bytes`, the chosen chunk is the one
   * that completes this number of bytes to the server, counted over all connections from now on.
   */
  readonly cutAfterForwarding: (
    options?: When & { readonly bytes?: number | undefined; readonly linger?: Duration.Input | undefined }
  ) => Effect.Effect<Armed>
  /**
   * Once: cuts a connection before the chosen chunk is forwarded to the server, which therefore does not execute it.
   */
  readonly cutBeforeForwarding: (options?: When) => Effect.Effect<Armed>
  /**
   * Once: forwards the first `bytes` of the chosen chunk to the client, then cuts the connection. Default: all but the last
   * byte, which usually is in the middle of a frame, because chunks tend to end where frames end.
   */
  readonly cutMidFrame: (options?: When & { readonly bytes?: number | undefined }) => Effect.Effect<Armed>
  /** Delays all bytes. */
  readonly delay: (duration: Duration.Input, direction?: Direction | "both") => Effect.Effect<void>
  /** Limits the rate of each direction of each connection. */
  readonly throttle: (bytesPerSecond: number) => Effect.Effect<void>
  /** Closes the server side of all live connections. The client side stays open, and the client is not notified. */
  readonly halfOpen: Effect.Effect<void>
  /**
   * Whether connections that are accepted from now on are swallowed: they stay open, what is sent on them is lost, and no
   * byte ever comes back, even after this is set to false again. Live connections continue.
   */
  readonly swallow: (on: boolean) => Effect.Effect<void>
  /** Connects new connections to another server. Live connections stay. */
  readonly retarget: (target: string | number) => Effect.Effect<void>
  /** Ends all faults: held bytes are forwarded, connections that lost bytes are cut, armed faults are removed. */
  readonly heal: Effect.Effect<void, TcpProxyError>
}

/**
 * A condition for {@link When}: the chunk contains these bytes, or this text in UTF-8.
 *
 * @example
 * ```ts
 * import { TcpProxy } from "@effect-kv/test-suite/verification"
 *
 * TcpProxy.contains("limit")(new TextEncoder().encode("config/limit")) // => true
 * ```
 *
 * @since 0.1.0
 */
export const contains = (wanted: string | Uint8Array): (chunk: Uint8Array) => boolean => {
  const bytes = Buffer.from(typeof wanted === "string" ? new TextEncoder().encode(wanted) : wanted)
  return (chunk) => Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength).includes(bytes)
}

/**
 * Opens a proxy to `target`, an endpoint (`http://127.0.0.1:2379`) or a loopback port, until the scope closes.
 *
 * @example
 * ```ts
 * import { Deadline, Kv } from "@effect-kv/core"
 * import { EtcdLayer } from "@effect-kv/etcd"
 * import { TcpProxy } from "@effect-kv/test-suite/verification"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const proxy = yield* TcpProxy.make({ target: "http://127.0.0.1:2379" })
 *   yield* proxy.blackhole()
 *   const error = yield* Kv.put("a", "1").pipe(
 *     Deadline.within("100 millis"),
 *     Effect.provide(EtcdLayer.layer({ endpoints: [proxy.endpoint] })),
 *     Effect.flip
 *   )
 *   error.reason._tag // => "Unavailable"
 * })
 * ```
 *
 * @since 0.1.0
 */
export const make = (options: {
  readonly target: string | number
}): Effect.Effect<TcpProxy, TcpProxyError, Scope.Scope> =>
  Effect.gen(function*() {
    const port = yield* Effect.acquireRelease(freePort, releasePort)
    const link = new Link(port, addressOf(options.target))
    yield* Effect.acquireRelease(listen(link), () => close(link))
    return interfaceOf(link, typeof options.target === "string" ? `${new URL(options.target).protocol}//` : "http://")
  }).pipe(
    // Another process took the port after it was chosen.
    Effect.retry({ times: 10 }),
    realTime
  )

const interfaceOf = (link: Link, scheme: string): TcpProxy => {
  const setHold = (
    options: { readonly direction?: Direction | "both" | undefined; readonly drop?: boolean | undefined }
  ) =>
    Effect.sync(() => {
      const fault = options.drop === true ? "drop" : "hold"
      for (const direction of directionsOf(options.direction)) link.faults.flow[direction] = fault
      if (fault === "hold") link.faults.struck += link.connections.size
      link.update()
    })
  const arm = (fault: Omit<OneShotFault, "onStruck">): Effect.Effect<Armed> =>
    Effect.sync(() => {
      let hasStruck = false
      const waiting = new Set<() => void>()
      link.faults.arm({
        ...fault,
        onStruck: () => {
          hasStruck = true
          for (const listener of waiting) listener()
        }
      })
      return {
        struck: Effect.callback((resume) => {
          if (hasStruck) return resume(Effect.void)
          const listener = () => resume(Effect.void)
          waiting.add(listener)
          return Effect.sync(() => waiting.delete(listener))
        })
      }
    })
  const down = Effect.flatMap(
    Effect.sync(() => link.cut()),
    () => stopListening(link)
  )
  const up = listen(link).pipe(
    // While the proxy was down, another process may have used the port briefly.
    Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 100 }),
    realTime
  )
  return {
    port: link.port,
    endpoint: `${scheme}127.0.0.1:${link.port}`,
    stats: Effect.sync(() => ({
      opened: link.opened,
      live: link.connections.size,
      bytesToServer: link.faults.bytes.toServer,
      bytesToClient: link.faults.bytes.toClient,
      struck: link.faults.struck
    })),
    cut: Effect.sync(() => link.cut()),
    down,
    up,
    blackhole: (options = {}) => setHold(options),
    dropResponses: setHold({ direction: "toClient", drop: true }),
    cutAfterForwarding: ({ bytes, linger = "1 second", when } = {}) => {
      let left = bytes ?? 0
      const reached = (chunk: Uint8Array) => (left -= chunk.length) <= 0
      return arm({
        direction: "toServer",
        matches: bytes === undefined ? when ?? always : reached,
        act: (connection, chunk) => connection.forwardThenCutClient(chunk, Duration.toMillis(linger))
      })
    },
    cutBeforeForwarding: ({ when = always } = {}) =>
      arm({ direction: "toServer", matches: when, act: (connection) => connection.destroy() }),
    cutMidFrame: ({ bytes, when = always } = {}) =>
      arm({
        direction: "toClient",
        matches: when,
        act: (connection, chunk) => connection.forwardPartThenCut(chunk.subarray(0, bytes ?? chunk.length - 1))
      }),
    delay: (duration, direction) =>
      Effect.sync(() => {
        for (const each of directionsOf(direction)) link.faults.delay[each] = Duration.toMillis(duration)
      }),
    throttle: (bytesPerSecond) => Effect.sync(() => void (link.faults.bytesPerSecond = bytesPerSecond)),
    halfOpen: Effect.sync(() => {
      for (const connection of link.connections) connection.closeServerSide()
    }),
    swallow: (on) => Effect.sync(() => void (link.swallows = on)),
    retarget: (target) => Effect.sync(() => void (link.target = addressOf(target))),
    heal: Effect.suspend(() => {
      link.heal()
      return up
    })
  }
}

const always = () => true

const addressOf = (target: string | number): Address => {
  if (typeof target === "number") return { host: "127.0.0.1", port: target }
  const url = new URL(target)
  return { host: url.hostname, port: Number(url.port) }
}
