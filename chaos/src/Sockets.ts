/**
 * Connections between the clients and the proxies, seen at both ends: both are sockets of this process.
 *
 * A count says that a socket is left. This says which one: over which link, from which port, opened when and by what code,
 * and which end is still open.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as DiagnosticsChannel from "node:diagnostics_channel"
import type * as Net from "node:net"

/** A connection of which at least one end has not closed. */
export interface Connection {
  /** The port of the proxy. */
  readonly proxyPort: number
  /** The port of the client's end. */
  readonly clientPort: number
  /** When it was opened, by the monotonic clock, in nanoseconds. */
  readonly opened: bigint
  /** The code that opened it, if the client's end was seen. */
  readonly openedBy: string | undefined
  readonly clientEnd: EndState
  readonly proxyEnd: EndState
}

/** What has become of an end: `closing` has sent or received its last byte. */
export type EndState = "open" | "closing" | "closed"

/** The connections of this process from now on. */
export interface Sockets {
  /** The connections to these ports that have not closed at both ends. */
  readonly left: (proxyPorts: ReadonlySet<number>) => ReadonlyArray<Connection>
}

interface End {
  readonly socket: Net.Socket
  readonly opened: bigint
  readonly openedBy?: string | undefined
}

/** Observes every socket that is opened until the scope closes. */
export const track = Effect.gen(function*() {
  const clock = yield* Clock.Clock
  const clientEnds = new Map<string, End>()
  const proxyEnds = new Map<string, End>()
  const forget = (key: string) => {
    if (proxyEnds.has(key) || clientEnds.get(key)?.socket.closed === false) return
    clientEnds.delete(key)
  }
  const onClient = (message: unknown) => {
    const { socket } = message as { readonly socket: Net.Socket }
    const end: End = { socket, opened: clock.monotonicTimeNanosUnsafe(), openedBy: caller() }
    socket.once("connect", () => {
      const key = keyOf(socket.localPort, socket.remotePort)
      clientEnds.set(key, end)
      socket.once("close", () => forget(key))
    })
  }
  const onServer = (message: unknown) => {
    const { socket } = message as { readonly socket: Net.Socket }
    const key = keyOf(socket.remotePort, socket.localPort)
    proxyEnds.set(key, { socket, opened: clock.monotonicTimeNanosUnsafe() })
    socket.once("close", () => {
      proxyEnds.delete(key)
      forget(key)
    })
  }
  yield* Effect.acquireRelease(
    Effect.sync(() => {
      DiagnosticsChannel.subscribe("net.client.socket", onClient)
      DiagnosticsChannel.subscribe("net.server.socket", onServer)
    }),
    () =>
      Effect.sync(() => {
        DiagnosticsChannel.unsubscribe("net.client.socket", onClient)
        DiagnosticsChannel.unsubscribe("net.server.socket", onServer)
      })
  )
  const left: Sockets["left"] = (proxyPorts) =>
    [...new Set([...clientEnds.keys(), ...proxyEnds.keys()])].flatMap((key): ReadonlyArray<Connection> => {
      const [clientPort, proxyPort] = key.split(" ").map(Number) as [number, number]
      if (!proxyPorts.has(proxyPort)) return []
      const [client, proxy] = [clientEnds.get(key), proxyEnds.get(key)]
      const { opened } = (client ?? proxy)!
      const ends = { clientEnd: stateOf(client), proxyEnd: stateOf(proxy) }
      return [{ clientPort, proxyPort, opened, openedBy: client?.openedBy, ...ends }]
    })
  return { left } satisfies Sockets
})

const keyOf = (clientPort: number | undefined, proxyPort: number | undefined): string => `${clientPort} ${proxyPort}`

const stateOf = (end: End | undefined): EndState => {
  if (end === undefined || end.socket.closed) return "closed"
  const { destroyed, readableEnded, writableEnded } = end.socket
  return destroyed || readableEnded || writableEnded ? "closing" : "open"
}

/** The first code on the stack that is neither Node's nor of this file. */
const caller = (): string | undefined => {
  const limit = Error.stackTraceLimit
  Error.stackTraceLimit = 30
  const lines = new Error().stack?.split("\n").slice(1) ?? []
  Error.stackTraceLimit = limit
  const line = lines.find((line) => !/\bnode:|\/chaos\/src\/Sockets\.ts/.test(line))
  return line?.trim().replace(/^at /, "").replace(/[^ (]*\/node_modules\//g, "").replace(
    /file:\/\/[^ (]*\/(?=packages\/|chaos\/)/g,
    ""
  )
}

/** Whether an end has begun to close: the rest takes the other end, and the network. */
export const isClosing = ({ clientEnd, proxyEnd }: Connection): boolean => clientEnd !== "open" || proxyEnd !== "open"

/** One connection in words. */
export const format = (
  { clientEnd, clientPort, opened, openedBy, proxyEnd }: Connection,
  link: string,
  now: bigint
): string =>
  `${link} from port ${clientPort}, opened ${(Number(now - opened) / 1e9).toFixed(1)} s ago by ` +
  `${openedBy ?? "unknown code"}, client end ${clientEnd}, proxy end ${proxyEnd}`
