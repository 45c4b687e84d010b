/**
 * A connection through the proxy: two sockets and a pump for each direction.
 */
import * as Net from "node:net"
import type { LinkFaults } from "./linkFaults.ts"
import { Pump, type PumpConnection } from "./pump.ts"

export interface Address {
  readonly host: string
  readonly port: number
}

/** The link of a connection. */
export interface ConnectionLink {
  readonly target: Address
  readonly faults: LinkFaults
  /** Connections with an open client side. */
  readonly connections: Set<Connection>
  /** Connections whose client is gone and whose server side is still open. */
  readonly lingering: Set<Connection>
}

/** A connection of a client, and the connection to the server that it is forwarded to. */
export class Connection implements PumpConnection {
  readonly link: ConnectionLink
  readonly client: Net.Socket
  readonly server: Net.Socket
  readonly toServer: Pump
  readonly toClient: Pump
  /** Set when bytes were lost: the connection is destroyed when the fault ends. */
  isTainted = false
  #linger: NodeJS.Timeout | undefined

  constructor(link: ConnectionLink, client: Net.Socket) {
    this.link = link
    this.client = client
    this.server = Net.connect({ ...link.target, allowHalfOpen: true, noDelay: true })
    this.toServer = new Pump(this, link.faults, "toServer", client, this.server)
    this.toClient = new Pump(this, link.faults, "toClient", this.server, client)
    for (const socket of [client, this.server]) {
      socket.on("error", () => {})
      socket.on("close", () => this.#closed(socket))
    }
  }

  update() {
    this.toServer.update()
    this.toClient.update()
  }

  heal() {
    if (this.isTainted) return this.destroy()
    this.toServer.release()
    this.toClient.release()
  }

  destroy() {
    clearTimeout(this.#linger)
    this.toServer.stop()
    this.toClient.stop()
    this.client.destroy()
    this.server.destroy()
    this.link.connections.delete(this)
    this.link.lingering.delete(this)
  }

  forwardThenCutClient(chunk: Buffer, lingerMillis: number) {
    this.toServer.stop()
    this.toClient.stop()
    this.link.connections.delete(this)
    this.link.lingering.add(this)
    this.link.faults.bytes.toServer += chunk.length
    this.client.destroy()
    this.server.resume()
    this.server.write(chunk, () => {
      // If it was destroyed meanwhile, no timer may be started.
      if (lingerMillis <= 0 || this.server.destroyed) this.destroy()
      else this.#linger = setTimeout(() => this.destroy(), lingerMillis)
    })
  }

  forwardPartThenCut(part: Buffer) {
    this.toServer.stop()
    this.toClient.stop()
    this.link.faults.bytes.toClient += part.length
    // Ended in order before it is closed: a reset could overtake the bytes.
    this.client.end(part, () => this.destroy())
    this.server.destroy()
  }

  /** One side ended and the other is not notified. When both have ended, no more bytes can come. */
  onUndeliveredEnd() {
    this.isTainted = true
    if (this.toServer.hasEnded && this.toClient.hasEnded) this.destroy()
  }

  closeServerSide() {
    this.link.faults.struck++
    this.isTainted = true
    this.toClient.stop()
    this.toServer.discard()
    this.server.destroy()
  }

  /** One side is closed: the other one is closed when it has received the bytes in flight. */
  #closed(socket: Net.Socket) {
    if (socket === this.server) {
      if (!this.isTainted) this.toClient.finish()
    } else if (this.link.connections.has(this)) {
      if (this.link.faults.flow.toServer === "pass") return this.destroy()
      this.isTainted = true
      this.link.connections.delete(this)
      this.link.lingering.add(this)
    }
  }
}
