/**
 * The pump of one direction of a proxied connection.
 */
import type * as Net from "node:net"
import type { Direction, FaultTarget, Flow, LinkFaults } from "./linkFaults.ts"

/** How many bytes of one direction are queued before the proxy stops reading from the sender. */
const maxQueued = 256 * 1024

/** The connection of a pump. */
export interface PumpConnection extends FaultTarget {
  /** Set when bytes were lost. */
  isTainted: boolean
  /** Called when the source has ended and the target is not notified. */
  readonly onUndeliveredEnd: () => void
}

/** One direction of a connection: reads from one socket and writes to the other, through the faults of the link. */
export class Pump {
  readonly connection: PumpConnection
  readonly faults: LinkFaults
  readonly direction: Direction
  readonly from: Net.Socket
  readonly to: Net.Socket
  /** Chunks that wait for their due time, or for the fault to end. */
  #queue: Array<{ readonly chunk: Buffer; readonly due: number }> = []
  #queued = 0
  #timer: NodeJS.Timeout | undefined
  /** With a limited rate: when the next byte may be sent. */
  #free = 0
  #blocked = false
  #ended = false
  #finished = false
  #mode: "running" | "discarding" | "stopped" = "running"

  constructor(
    connection: PumpConnection,
    faults: LinkFaults,
    direction: Direction,
    from: Net.Socket,
    to: Net.Socket
  ) {
    this.connection = connection
    this.faults = faults
    this.direction = direction
    this.from = from
    this.to = to
    from.on("data", (chunk: Buffer) => this.#receive(chunk))
    from.on("end", () => {
      this.#ended = true
      // The target is closed, so the end cannot be forwarded.
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
    return this.faults.flow[this.direction]
  }

  /** Forwards every chunk that is due, and reads only while there is room in the queue. */
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
    if (this.#flow === "drop" && this.#ended) this.connection.onUndeliveredEnd()
    if (this.#flow === "hold" || this.#blocked || this.#queued >= maxQueued) this.from.pause()
    else this.from.resume()
  }

  get hasEnded(): boolean {
    return this.#ended
  }

  /** Makes all queued chunks due now. */
  release() {
    this.#queue = this.#queue.map(({ chunk }) => ({ chunk, due: 0 }))
    this.#free = 0
    this.update()
  }

  /** The source is closed: destroys the connection once the queue is forwarded. */
  finish() {
    this.#finished = true
    this.update()
  }

  /** Discards what it reads, and destroys the connection when the source ends. */
  discard() {
    this.#leave("discarding")
  }

  /** Discards what it reads: with unread bytes, closing the socket would become a reset. */
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
    const { bytesPerSecond, delay } = this.faults
    if (this.#flow === "drop" || bytesPerSecond !== Infinity || delay[this.direction] > 0) this.faults.struck++
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

  /** In slices of 50 ms, for an even flow. */
  #enqueueSlowly(chunk: Buffer, bytesPerSecond: number, delay: number) {
    const slice = Math.max(1, Math.floor(bytesPerSecond / 20))
    for (let start = 0; start < chunk.length; start += slice) {
      const part = chunk.subarray(start, start + slice)
      this.#free = Math.max(this.#free, performance.now()) + part.length / bytesPerSecond * 1000
      this.#enqueue(part, this.#free + delay)
    }
  }

  #forward(chunk: Buffer) {
    const fault = this.faults.takeOneShot(this.direction, chunk)
    if (fault !== undefined) {
      fault.act(this.connection, chunk)
      fault.onStruck()
      return
    }
    this.faults.bytes[this.direction] += chunk.length
    this.#blocked = !this.to.write(chunk)
  }
}
