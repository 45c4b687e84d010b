/**
 * A proxied link: a listening port, the server it forwards to, and its live connections.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Net from "node:net"
import { type Address, Connection, type ConnectionLink } from "./connection.ts"
import { LinkFaults } from "./linkFaults.ts"

/**
 * The proxy could not listen on its port.
 *
 * @since 0.1.0
 */
export class TcpProxyError extends Data.TaggedError("TcpProxyError")<{
  readonly message: string
  readonly cause?: unknown
}> {}

export class Link implements ConnectionLink {
  readonly port: number
  target: Address
  server: Net.Server | undefined
  readonly connections = new Set<Connection>()
  readonly lingering = new Set<Connection>()
  readonly faults = new LinkFaults()
  /** How many connections clients have opened. */
  opened = 0
  /** Whether new connections are swallowed. */
  swallows = false

  constructor(port: number, target: Address) {
    this.port = port
    this.target = target
  }

  accept(client: Net.Socket) {
    this.opened++
    const connection = new Connection(this, client)
    this.connections.add(connection)
    if (this.swallows) return connection.closeServerSide()
    const { flow } = this.faults
    if (flow.toServer === "hold" || flow.toClient === "hold") this.faults.struck++
  }

  update() {
    for (const connection of this.connections) connection.update()
  }

  cut() {
    this.faults.struck += this.connections.size
    this.destroyAll()
  }

  destroyAll() {
    for (const connection of [...this.connections, ...this.lingering]) connection.destroy()
  }

  heal() {
    this.faults.clear()
    this.swallows = false
    for (const connection of [...this.connections, ...this.lingering]) connection.heal()
  }
}

export const listen = (link: Link): Effect.Effect<void, TcpProxyError> =>
  Effect.callback((resume) => {
    if (link.server !== undefined) return resume(Effect.void)
    const server = Net.createServer({ allowHalfOpen: true, noDelay: true }, (client) => link.accept(client))
    server.once("error", (cause) =>
      resume(Effect.fail(new TcpProxyError({ message: `could not listen on port ${link.port}`, cause }))))
    server.listen({ port: link.port, host: "127.0.0.1", exclusive: true }, () => {
      server.on("error", () => {})
      link.server = server
      resume(Effect.void)
    })
  })

/** Connections must be destroyed before: a server only closes when its last connection has closed. */
export const stopListening = (link: Link): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const server = link.server
    link.server = undefined
    if (server === undefined) return resume(Effect.void)
    server.close(() => resume(Effect.void))
    // A connection may have been accepted meanwhile.
    link.destroyAll()
  })

export const close = (link: Link): Effect.Effect<void> =>
  Effect.flatMap(
    Effect.sync(() => link.destroyAll()),
    () => stopListening(link)
  )
