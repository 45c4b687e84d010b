/**
 * A TCP proxy on the loopback for the link between a client and a server, with faults that are switched on and off while
 * it runs.
 *
 * It knows connections, bytes and directions, and nothing of the protocol inside (TLS passes through). Faults of a network
 * that loses packets are played by holding bytes back, since TCP would send them again; what is dropped here is lost for
 * good, and its connection is cut when the fault ends. Timing is real time, whatever clock the test runs on.
 */
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"
import { freePort, releasePort } from "../internal/ports.ts"
import { realTime } from "../internal/realTime.ts"

/** The proxy could not listen. */
export class TcpProxyError extends Data.TaggedError("TcpProxyError")<{
  readonly message: string
  readonly cause?: unknown
}> {}

/** Where bytes go: requests to the server, responses to the client. */
export type Direction = "toServer" | "toClient"

/** Counted since the proxy was made. */
export interface Stats {
  /** Connections that clients opened. */
  readonly opened: number
  /** Connections that are open on the client's side. */
  readonly live: number
  /** Bytes passed on to the server. */
  readonly bytesToServer: number
  /** Bytes passed on to clients. */
  readonly bytesToClient: number
  /** How often a fault met something: a connection that it cut or silenced, or a chunk that it lost, delayed or slowed. */
  readonly struck: number
}

/** Chooses the chunk at which a fault strikes. */
export interface When {
  /** True for the chunk that is meant, by default the first. A chunk is what one read from the socket gave. */
  readonly when?: ((chunk: Uint8Array) => boolean) | undefined
}

/** A fault that strikes once. */
export interface Armed {
  /** Waits until it has struck. */
  readonly struck: Effect.Effect<void>
}

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
   * Passes nothing on, not even that a side has closed, while connections are accepted and stay open. Bytes are held
   * back, and go on when the fault ends, as in a network that is gone for a while; with `drop` they are lost, and
   * connections that lost some are cut at its end.
   */
  readonly blackhole: (options?: {
    readonly direction?: Direction | "both" | undefined
    readonly drop?: boolean | undefined
  }) => Effect.Effect<void>
  /** Passes requests on and loses the answers: what the client asks is done, and it does not hear of it. */
  readonly dropResponses: Effect.Effect<void>
  /**
   * Once: passes the chosen chunk of a client on to the server, then cuts that client off before it hears anything.
   *
   * **Details**
   *
   * The server's side stays open for `linger` (default 1 second), unread answers included, so that the server does what it
   * was asked; with 0 it is closed as soon as the chunk is out, and the server may give up half-way. With `bytes` the chunk
   * is the one with which so many have gone to the server, counted over all connections from now.
   */
  readonly cutAfterForwarding: (
    options?: When & { readonly bytes?: number | undefined; readonly linger?: Duration.Input | undefined }
  ) => Effect.Effect<Armed>
  /**
   * Once: cuts a client's connection before the chosen chunk is passed on to the server, so that nothing of it is done.
   */
  readonly cutBeforeForwarding: (options?: When) => Effect.Effect<Armed>
  /**
   * Once: passes a part of the chosen chunk on to the client, then cuts. By default all but its last byte: chunks tend to
   * end where frames do, so that this is in the middle of one.
   */
  readonly cutMidFrame: (options?: When & { readonly bytes?: number | undefined }) => Effect.Effect<Armed>
  /** Passes everything on so much later. */
  readonly delay: (duration: Duration.Input, direction?: Direction | "both") => Effect.Effect<void>
  /** Passes so many bytes a second, in each direction of each connection. */
  readonly throttle: (bytesPerSecond: number) => Effect.Effect<void>
  /** Closes the server's side of all live connections and leaves the client's side open: it does not hear of it. */
  readonly halfOpen: Effect.Effect<void>
  /** Sends new connections to another server; live ones stay. */
  readonly retarget: (target: string | number) => Effect.Effect<void>
  /** Ends all faults: what was held back goes on, connections that lost bytes are cut, nothing is armed any more. */
  readonly heal: Effect.Effect<void, TcpProxyError>
}

/** A condition for a chunk: it contains these bytes, or this text in UTF-8. */
export const contains = (wanted: string | Uint8Array): (chunk: Uint8Array) => boolean => {
  const bytes = Buffer.from(typeof wanted === "string" ? new TextEncoder().encode(wanted) : wanted)
  return (chunk) => Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength).includes(bytes)
}

/**
 * Opens a proxy to `target`, an endpoint (`http://127.0.0.1:2379`) or a loopback port, until the scope closes.
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
    // Another process took the port in between.
    Effect.retry({ times: 10 }),
    realTime
  )

const interfaceOf = (link: Link, scheme: string): TcpProxy => {
  const setHold = (
    options: { readonly direction?: Direction | "both" | undefined; readonly drop?: boolean | undefined }
  ) =>
    Effect.sync(() => {
      const fault = options.drop === true ? "drop" : "hold"
      for (const direction of directionsOf(options.direction)) link.flow[direction] = fault
      if (fault === "hold") link.struck += link.connections.size
      link.update()
    })
  const arm = (trap: Omit<Trap, "strike">): Effect.Effect<Armed> =>
    Effect.sync(() => {
      let hasStruck = false
      const waiting = new Set<() => void>()
      link.traps.push({
        ...trap,
        strike: () => {
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
    // While it was down, somebody may have used the port for a moment.
    Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 100 }),
    realTime
  )
  return {
    port: link.port,
    endpoint: `${scheme}127.0.0.1:${link.port}`,
    stats: Effect.sync(() => ({
      opened: link.opened,
      live: link.connections.size,
      bytesToServer: link.bytes.toServer,
      bytesToClient: link.bytes.toClient,
      struck: link.struck
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
        for (const each of directionsOf(direction)) link.delay[each] = Duration.toMillis(duration)
      }),
    throttle: (bytesPerSecond) => Effect.sync(() => void (link.bytesPerSecond = bytesPerSecond)),
    halfOpen: Effect.sync(() => {
      for (const connection of link.connections) connection.closeServerSide()
    }),
    retarget: (target) => Effect.sync(() => void (link.target = addressOf(target))),
    heal: Effect.suspend(() => {
      link.heal()
      return up
    })
  }
}

const always = () => true

const directionsOf = (direction: Direction | "both" | undefined): ReadonlyArray<Direction> =>
  direction === undefined || direction === "both" ? ["toServer", "toClient"] : [direction]

interface Address {
  readonly host: string
  readonly port: number
}

const addressOf = (target: string | number): Address => {
  if (typeof target === "number") return { host: "127.0.0.1", port: target }
  const url = new URL(target)
  return { host: url.hostname, port: Number(url.port) }
}

// -----------------------------------------------------------------------------
// listening
// -----------------------------------------------------------------------------

const listen = (link: Link): Effect.Effect<void, TcpProxyError> =>
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

/** Connections must have been destroyed: a server closes when its last connection has. */
const stopListening = (link: Link): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const server = link.server
    link.server = undefined
    if (server === undefined) return resume(Effect.void)
    server.close(() => resume(Effect.void))
    // A connection may have been accepted since.
    link.destroyAll()
  })

const close = (link: Link): Effect.Effect<void> =>
  Effect.flatMap(
    Effect.sync(() => link.destroyAll()),
    () => stopListening(link)
  )

// -----------------------------------------------------------------------------
// the link and its connections: plain Node, driven by socket events
// -----------------------------------------------------------------------------

type Flow = "pass" | "hold" | "drop"

interface Trap {
  readonly direction: Direction
  readonly matches: (chunk: Uint8Array) => boolean
  readonly act: (connection: Connection, chunk: Buffer) => void
  readonly strike: () => void
}

class Link {
  readonly port: number
  target: Address
  server: Net.Server | undefined
  readonly connections = new Set<Connection>()
  /** Those that the client is gone from, and the server does not know of it. */
  readonly lingering = new Set<Connection>()
  readonly flow: Record<Direction, Flow> = { toServer: "pass", toClient: "pass" }
  readonly delay: Record<Direction, number> = { toServer: 0, toClient: 0 }
  bytesPerSecond = Infinity
  traps: Array<Trap> = []
  opened = 0
  readonly bytes: Record<Direction, number> = { toServer: 0, toClient: 0 }
  struck = 0

  constructor(port: number, target: Address) {
    this.port = port
    this.target = target
  }

  accept(client: Net.Socket) {
    this.opened++
    const connection = new Connection(this, client)
    this.connections.add(connection)
    if (this.flow.toServer === "hold" || this.flow.toClient === "hold") this.struck++
  }

  update() {
    for (const connection of this.connections) connection.update()
  }

  /** The trap that strikes at this chunk, which is no longer armed then. */
  springTrap(direction: Direction, chunk: Uint8Array): Trap | undefined {
    const index = this.traps.findIndex((trap) => trap.direction === direction && trap.matches(chunk))
    if (index < 0) return undefined
    this.struck++
    return this.traps.splice(index, 1)[0]
  }

  cut() {
    this.struck += this.connections.size
    this.destroyAll()
  }

  destroyAll() {
    for (const connection of [...this.connections, ...this.lingering]) connection.destroy()
  }

  heal() {
    this.traps = []
    this.bytesPerSecond = Infinity
    for (const direction of directionsOf("both")) {
      this.flow[direction] = "pass"
      this.delay[direction] = 0
    }
    for (const connection of [...this.connections, ...this.lingering]) connection.heal()
  }
}

class Connection {
  readonly link: Link
  readonly client: Net.Socket
  readonly server: Net.Socket
  readonly toServer: Pump
  readonly toClient: Pump
  /** Bytes were lost: it cannot be used once the fault is over. */
  isTainted = false
  #linger: NodeJS.Timeout | undefined

  constructor(link: Link, client: Net.Socket) {
    this.link = link
    this.client = client
    this.server = Net.connect({ ...link.target, allowHalfOpen: true, noDelay: true })
    this.toServer = new Pump(this, "toServer", client, this.server)
    this.toClient = new Pump(this, "toClient", this.server, client)
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
    this.link.bytes.toServer += chunk.length
    this.client.destroy()
    this.server.resume()
    this.server.write(chunk, () => {
      // Destroyed meanwhile, it has nothing to wait for.
      if (lingerMillis <= 0 || this.server.destroyed) this.destroy()
      else this.#linger = setTimeout(() => this.destroy(), lingerMillis)
    })
  }

  forwardPartThenCut(part: Buffer) {
    this.toServer.stop()
    this.toClient.stop()
    this.link.bytes.toClient += part.length
    // To the end in order, then closed: a reset could overtake the bytes.
    this.client.end(part, () => this.destroy())
    this.server.destroy()
  }

  /** One side said that it ends and the other does not get to hear of it. Once both have, nothing more can come. */
  endUnheard() {
    this.isTainted = true
    if (this.toServer.hasEnded && this.toClient.hasEnded) this.destroy()
  }

  closeServerSide() {
    this.link.struck++
    this.isTainted = true
    this.toClient.stop()
    this.toServer.discard()
    this.server.destroy()
  }

  /** A side is gone for good: so is the other, once it has what was on its way. */
  #closed(socket: Net.Socket) {
    if (socket === this.server) {
      if (!this.isTainted) this.toClient.finish()
    } else if (this.link.connections.has(this)) {
      if (this.link.flow.toServer === "pass") return this.destroy()
      this.isTainted = true
      this.link.connections.delete(this)
      this.link.lingering.add(this)
    }
  }
}

/** So many bytes of one direction may wait here, before the sender is made to wait. */
const maxQueued = 256 * 1024

/** One direction of a connection: reads from one socket and writes to the other, through the link's faults. */
class Pump {
  readonly connection: Connection
  readonly direction: Direction
  readonly from: Net.Socket
  readonly to: Net.Socket
  /** What waits for its time, or for the fault to end. */
  #queue: Array<{ readonly chunk: Buffer; readonly due: number }> = []
  #queued = 0
  #timer: NodeJS.Timeout | undefined
  /** With a limited rate: when the next byte may leave. */
  #free = 0
  #blocked = false
  #ended = false
  #finished = false
  #mode: "running" | "discarding" | "stopped" = "running"

  constructor(connection: Connection, direction: Direction, from: Net.Socket, to: Net.Socket) {
    this.connection = connection
    this.direction = direction
    this.from = from
    this.to = to
    from.on("data", (chunk: Buffer) => this.#receive(chunk))
    from.on("end", () => {
      this.#ended = true
      // Nobody is left to pass it on to.
      if (this.#mode === "discarding") connection.destroy()
      else this.update()
    })
    to.on("drain", () => {
      this.#blocked = false
      this.update()
    })
    this.update()
  }

  get #flow(): Flow {
    return this.connection.link.flow[this.direction]
  }

  /** Passes on what may be passed on, and reads only if there is room. */
  update() {
    if (this.#mode !== "running") return
    clearTimeout(this.#timer)
    this.#timer = undefined
    while (this.#flow === "pass" && !this.#blocked && this.#mode === "running") {
      const first = this.#queue[0]
      if (first === undefined) break
      const wait = first.due - performance.now()
      if (wait > 0) {
        this.#timer = setTimeout(() => this.update(), wait)
        break
      }
      this.#queue.shift()
      this.#queued -= first.chunk.length
      this.#forward(first.chunk)
    }
    if (this.#mode !== "running") return
    if (this.#queue.length === 0 && this.#flow === "pass") {
      if (this.#finished) return this.connection.destroy()
      if (this.#ended) this.to.end()
    }
    if (this.#flow === "drop" && this.#ended) this.connection.endUnheard()
    if (this.#flow === "hold" || this.#blocked || this.#queued >= maxQueued) this.from.pause()
    else this.from.resume()
  }

  get hasEnded(): boolean {
    return this.#ended
  }

  /** What still waits has waited long enough. */
  release() {
    this.#queue = this.#queue.map(({ chunk }) => ({ chunk, due: 0 }))
    this.#free = 0
    this.update()
  }

  /** The socket it reads from is closed: when the rest is through, all is over. */
  finish() {
    this.#finished = true
    this.update()
  }

  /** Reads and forgets, and ends the connection when its socket does. */
  discard() {
    this.#leave("discarding")
  }

  /** Reads and forgets. Unread bytes would turn the closing of the socket into a reset. */
  stop() {
    this.#leave("stopped")
  }

  #leave(mode: "discarding" | "stopped") {
    this.#mode = mode
    clearTimeout(this.#timer)
    this.#queue = []
    this.#queued = 0
    this.from.resume()
  }

  #receive(chunk: Buffer) {
    if (this.#mode !== "running") return
    const { bytesPerSecond, delay } = this.connection.link
    if (this.#flow === "drop" || bytesPerSecond !== Infinity || delay[this.direction] > 0) this.connection.link.struck++
    if (this.#flow === "drop") {
      this.connection.isTainted = true
      return
    }
    if (bytesPerSecond === Infinity) this.#enqueue(chunk, performance.now() + delay[this.direction])
    else this.#enqueueSlowly(chunk, bytesPerSecond, delay[this.direction])
    this.update()
  }

  #enqueue(chunk: Buffer, due: number) {
    this.#queue.push({ chunk, due })
    this.#queued += chunk.length
  }

  /** In slices of a twentieth of a second, so that it flows rather than jumps. */
  #enqueueSlowly(chunk: Buffer, bytesPerSecond: number, delay: number) {
    const slice = Math.max(1, Math.floor(bytesPerSecond / 20))
    for (let start = 0; start < chunk.length; start += slice) {
      const part = chunk.subarray(start, start + slice)
      this.#free = Math.max(this.#free, performance.now()) + part.length / bytesPerSecond * 1000
      this.#enqueue(part, this.#free + delay)
    }
  }

  #forward(chunk: Buffer) {
    const trap = this.connection.link.springTrap(this.direction, chunk)
    if (trap !== undefined) {
      trap.act(this.connection, chunk)
      trap.strike()
      return
    }
    this.connection.link.bytes[this.direction] += chunk.length
    this.#blocked = !this.to.write(chunk)
  }
}
