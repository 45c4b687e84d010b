/**
 * gRPC's message framing: a flag for compression, the length, the bytes.
 */
import { type Outcome, Status } from "./status.ts"

const prefixSize = 5

/** The message with its prefix, as it is sent. */
export const frame = (message: Uint8Array): Buffer => {
  const framed = Buffer.allocUnsafe(prefixSize + message.length)
  framed[0] = 0
  framed.writeUInt32BE(message.length, 1)
  framed.set(message, prefixSize)
  return framed
}

/**
 * A reader of messages from chunks that begin and end anywhere.
 *
 * A message that lies within one chunk is not copied. Nothing is allocated for a message before all of it has arrived,
 * so that an invalid length costs nothing.
 */
export class MessageReader {
  readonly #limit: number
  #chunks: Array<Buffer> = noChunks
  /** The current chunk, and the position in it. */
  #index = 0
  #offset = 0
  #available = 0
  /** The length from the last prefix that was read. */
  #length: number | undefined
  /** The problem that makes the stream unreadable. After it `next` returns nothing. */
  problem: Outcome | undefined

  constructor(limit: number) {
    this.#limit = limit
  }

  /** Whether every byte was part of a message that `next` returned. */
  get isEmpty(): boolean {
    return this.#available === 0 && this.#length === undefined
  }

  push(chunk: Buffer): void {
    if (chunk.length === 0 || this.problem !== undefined) return
    if (this.#chunks.length === 0) this.#chunks = [chunk]
    else this.#chunks.push(chunk)
    this.#available += chunk.length
  }

  /** The next message, or `undefined` if it has not arrived completely. */
  next(): Buffer | undefined {
    if (this.problem !== undefined) return undefined
    if (this.#length === undefined) {
      if (this.#available < prefixSize) return undefined
      this.#readPrefix()
      if (this.problem !== undefined) return undefined
    }
    const length = this.#length!
    if (this.#available < length) return undefined
    this.#length = undefined
    return this.#take(length)
  }

  #readPrefix(): void {
    const chunk = this.#chunks[this.#index]!
    const isWhole = chunk.length - this.#offset >= prefixSize
    // A prefix within one chunk, as nearly all are, is read in place.
    const at = isWhole ? this.#offset : 0
    const prefix = isWhole ? chunk : this.#take(prefixSize)
    if (isWhole) {
      this.#available -= prefixSize
      this.#advance(chunk, prefixSize)
    }
    const flag = prefix[at]!
    const length = prefix.readUInt32BE(at + 1)
    if (flag !== 0) {
      this.#fail(
        Status.INTERNAL,
        flag === 1
          ? "the server sent a compressed message; this client did not offer compression"
          : `the server sent a message with the invalid flag ${flag}`
      )
    } else if (length > this.#limit) {
      this.#fail(
        Status.RESOURCE_EXHAUSTED,
        `the server sent a message of ${length} bytes; the limit (maxMessageSize) is ${this.#limit} bytes`,
        length
      )
    } else {
      this.#length = length
    }
  }

  #fail(code: number, details: string, messageSize?: number): void {
    this.problem = messageSize === undefined ? { code, details } : { code, details, messageSize }
    this.#chunks = noChunks
    this.#index = 0
    this.#offset = 0
    this.#available = 0
  }

  #take(size: number): Buffer {
    if (size === 0) return empty
    const chunk = this.#chunks[this.#index]!
    this.#available -= size
    if (chunk.length - this.#offset >= size) {
      const taken = chunk.subarray(this.#offset, this.#offset + size)
      this.#advance(chunk, size)
      return taken
    }
    const taken = Buffer.allocUnsafe(size)
    for (let at = 0; at < size;) {
      const chunk = this.#chunks[this.#index]!
      const part = Math.min(chunk.length - this.#offset, size - at)
      chunk.copy(taken, at, this.#offset, this.#offset + part)
      at += part
      this.#advance(chunk, part)
    }
    return taken
  }

  #advance(chunk: Buffer, size: number): void {
    this.#offset += size
    if (this.#offset < chunk.length) return
    this.#offset = 0
    this.#index += 1
    if (this.#index === this.#chunks.length) {
      this.#chunks = noChunks
      this.#index = 0
    } else if (this.#index >= 1024 && this.#index * 2 >= this.#chunks.length) {
      this.#chunks = this.#chunks.slice(this.#index)
      this.#index = 0
    }
  }
}

const empty = Buffer.alloc(0)

/** Never written to. */
const noChunks: Array<Buffer> = []
