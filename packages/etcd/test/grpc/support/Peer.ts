/**
 * A scripted HTTP/2 server on a real TCP port: it reads and writes single frames, so that it can do what no HTTP/2
 * library would.
 *
 * By default it behaves well: it sends SETTINGS, acknowledges SETTINGS and PING, and passes each complete request to
 * the script. It writes header blocks as literals, and does not decode those it receives.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"

export interface Frame {
  readonly type: number
  readonly flags: number
  readonly stream: number
  readonly payload: Buffer
}

export const Type = {
  DATA: 0,
  HEADERS: 1,
  RST_STREAM: 3,
  SETTINGS: 4,
  PING: 6,
  GOAWAY: 7,
  WINDOW_UPDATE: 8,
  CONTINUATION: 9
}

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

export const encode = (type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer => {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head[3] = type
  head[4] = flags
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

/** A header block of literals without indexing. */
export const block = (headers: Readonly<Record<string, string>>): Buffer => {
  const text = (value: string): Buffer => {
    const bytes = Buffer.from(value, "latin1")
    if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes])
    const length = [127]
    let rest = bytes.length - 127
    for (; rest >= 128; rest = Math.floor(rest / 128)) length.push(rest % 128 | 128)
    return Buffer.concat([Buffer.from([...length, rest]), bytes])
  }
  return Buffer.concat(Object.entries(headers).flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]))
}

/** A gRPC message with its prefix. */
export const message = (text: string | Uint8Array, flag = 0): Buffer => {
  const bytes = Buffer.from(text as string)
  const prefix = Buffer.alloc(5)
  prefix[0] = flag
  prefix.writeUInt32BE(bytes.length, 1)
  return Buffer.concat([prefix, bytes])
}

export const okHeaders = { ":status": "200", "content-type": "application/grpc" }

/** One connection, as the peer sees it. */
export class PeerConnection {
  readonly socket: Net.Socket
  readonly script: Script
  /** The number of earlier connections. */
  readonly index: number
  readonly frames: Array<Frame> = []
  readonly requests = new Map<number, Buffer>()
  #pending = Buffer.alloc(0)
  #hasPreface = false
  readonly #waiting = new Set<() => void>()

  constructor(socket: Net.Socket, script: Script, index: number) {
    this.socket = socket
    this.index = index
    this.script = script
    socket.on("error", () => {})
    socket.on("close", () => this.#changed())
    socket.on("end", () => this.#changed())
    if (script.swallow?.() === true) {
      socket.resume()
      return
    }
    socket.on("data", (chunk) => this.#read(chunk))
    if (script.settings !== null) this.settings(script.settings ?? {})
    script.onConnection?.(this)
  }

  #read(chunk: Buffer): void {
    if (this.script.isDeaf?.(this) === true) return
    this.#pending = Buffer.concat([this.#pending, chunk])
    if (!this.#hasPreface) {
      if (this.#pending.length < preface.length) return
      this.#hasPreface = true
      this.#pending = this.#pending.subarray(preface.length)
    }
    while (this.#pending.length >= 9) {
      const size = 9 + this.#pending.readUIntBE(0, 3)
      if (this.#pending.length < size) break
      const [, , , type, flags] = this.#pending
      const stream = this.#pending.readUInt32BE(5) & 0x7fffffff
      this.#frame({ type: type!, flags: flags!, stream, payload: this.#pending.subarray(9, size) })
      this.#pending = this.#pending.subarray(size)
    }
  }

  #frame(frame: Frame): void {
    this.frames.push(frame)
    if (this.script.onFrame?.(this, frame) !== true) {
      const isAck = (frame.flags & 1) === 1
      if (frame.type === Type.SETTINGS && !isAck && this.script.settings !== null) {
        this.write(encode(Type.SETTINGS, 1, 0))
      }
      if (frame.type === Type.PING && !isAck) this.write(encode(Type.PING, 1, 0, frame.payload))
      if (frame.type === Type.DATA) {
        const whole = Buffer.concat([this.requests.get(frame.stream) ?? Buffer.alloc(0), frame.payload])
        this.requests.set(frame.stream, whole)
        if (isAck) this.script.onRequest?.(this, frame.stream, whole.subarray(5))
      }
    }
    this.#changed()
  }

  #changed(): void {
    for (const wake of Array.from(this.#waiting)) wake()
  }

  write(bytes: Uint8Array): void {
    if (!this.socket.destroyed) this.socket.write(bytes)
  }

  settings(values: Readonly<Record<number, number>>): void {
    const payload = Buffer.alloc(Object.keys(values).length * 6)
    Object.entries(values).forEach(([id, value], index) => {
      payload.writeUInt16BE(Number(id), index * 6)
      payload.writeUInt32BE(value, index * 6 + 2)
    })
    this.write(encode(Type.SETTINGS, 0, 0, payload))
  }

  headers(stream: number, headers: Readonly<Record<string, string>>, end = false): void {
    this.write(encode(Type.HEADERS, end ? 5 : 4, stream, block(headers)))
  }

  /** Headers of any size: one HEADERS frame, and CONTINUATION frames. */
  largeHeaders(stream: number, headers: Readonly<Record<string, string>>, end = false): void {
    const whole = block(headers)
    for (let at = 0; at < whole.length; at += 16384) {
      const flags = (at === 0 && end ? 1 : 0) | (at + 16384 >= whole.length ? 4 : 0)
      this.write(encode(at === 0 ? Type.HEADERS : Type.CONTINUATION, flags, stream, whole.subarray(at, at + 16384)))
    }
  }

  data(stream: number, bytes: Uint8Array, end = false): void {
    for (let at = 0; at === 0 || at < bytes.length; at += 16384) {
      const part = bytes.subarray(at, at + 16384)
      this.write(encode(Type.DATA, end && at + 16384 >= bytes.length ? 1 : 0, stream, part))
    }
  }

  reset(stream: number, code: number): void {
    const payload = Buffer.alloc(4)
    payload.writeUInt32BE(code)
    this.write(encode(Type.RST_STREAM, 0, stream, payload))
  }

  goaway(lastStream: number, code = 0, text = ""): void {
    const payload = Buffer.alloc(8 + text.length)
    payload.writeUInt32BE(lastStream, 0)
    payload.writeUInt32BE(code, 4)
    payload.write(text, 8)
    this.write(encode(Type.GOAWAY, 0, 0, payload))
  }

  /** A complete successful response. */
  respond(stream: number, text: string | Uint8Array = "response"): void {
    this.headers(stream, okHeaders)
    this.data(stream, message(text))
    this.trailers(stream, 0)
  }

  trailers(stream: number, status: number | string, text?: string): void {
    this.headers(
      stream,
      { "grpc-status": `${status}`, ...(text === undefined ? {} : { "grpc-message": text }) },
      true
    )
  }

  /** Whether the client has closed the connection. */
  get isEnded(): boolean {
    return this.socket.readableEnded || this.socket.closed
  }

  count(type: number, stream?: number): number {
    return this.frames.filter((frame) =>
      frame.type === type && (stream === undefined || frame.stream === stream) &&
      (type !== Type.PING || (frame.flags & 1) === 0)
    ).length
  }

  /** Waits until the condition holds. It is checked after each frame, and when the connection ends. */
  until(holds: (connection: this) => boolean): Effect.Effect<void> {
    return Effect.callback((resume) => {
      const look = (): void => {
        if (!holds(this)) return
        this.#waiting.delete(look)
        resume(Effect.void)
      }
      this.#waiting.add(look)
      look()
      return Effect.sync(() => void this.#waiting.delete(look))
    })
  }
}

export interface Script {
  /** `null` neither sends nor acknowledges SETTINGS. */
  readonly settings?: Readonly<Record<number, number>> | null
  /** Whether a new connection is accepted and then ignored. */
  readonly swallow?: () => boolean
  /** Whether all further data is ignored. */
  readonly isDeaf?: (connection: PeerConnection) => boolean
  readonly onConnection?: (connection: PeerConnection) => void
  /** `true` means that the frame was handled, and skips the default behaviour. */
  readonly onFrame?: (connection: PeerConnection, frame: Frame) => boolean | void
  readonly onRequest?: (connection: PeerConnection, stream: number, message: Buffer) => void
}

export interface Peer {
  readonly port: number
  readonly connections: ReadonlyArray<PeerConnection>
  /** The connection with this number, as soon as it exists. */
  readonly connection: (index: number) => Effect.Effect<PeerConnection>
  /** Stops listening. Open connections stay open. */
  readonly stopListening: Effect.Effect<void>
}

export const make = (
  script: Script,
  listen: Net.ListenOptions = { host: "127.0.0.1", port: 0 }
): Effect.Effect<Peer, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.callback<{ server: Net.Server; connections: Array<PeerConnection>; waiting: Set<() => void> }>(
        (resume) => {
          const connections: Array<PeerConnection> = []
          const waiting = new Set<() => void>()
          const server = Net.createServer({ allowHalfOpen: true }, (socket) => {
            connections.push(new PeerConnection(socket, script, connections.length))
            for (const wake of Array.from(waiting)) wake()
          })
          server.listen(listen, () => resume(Effect.succeed({ server, connections, waiting })))
        }
      ),
      ({ connections, server }) =>
        Effect.sync(() => {
          server.close()
          for (const { socket } of connections) socket.destroy()
        })
    ),
    ({ connections, server, waiting }) => ({
      port: (server.address() as Net.AddressInfo).port,
      connections,
      connection: (index) =>
        Effect.callback((resume) => {
          const look = (): void => {
            const connection = connections[index]
            if (connection === undefined) return
            waiting.delete(look)
            resume(Effect.succeed(connection))
          }
          waiting.add(look)
          look()
          return Effect.sync(() => void waiting.delete(look))
        }),
      stopListening: Effect.sync(() => server.close())
    })
  )
