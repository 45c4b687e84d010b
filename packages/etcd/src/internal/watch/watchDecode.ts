/**
 * The decoder of watch responses.
 *
 * etcd3's protobuf library needs more time for an event than the rest of a watch. Here keys and values stay in the
 * message until a consumer takes the event, and events of closed watches are never decoded. Fields are numbered as in
 * etcd's `rpc.proto` and `kv.proto`. Unknown fields are skipped.
 */
import { noHeader, readHeader } from "../wire/header.ts"
import { readKeyValue, type WireKeyValue } from "../wire/keyValue.ts"
import { Reader } from "../wire/wireReader.ts"
import type { Response, WireEvent } from "./watchWire.ts"

/** Decodes a `WatchResponse`. */
export const decodeResponse = (message: Buffer): Response => {
  const reader = new Reader(message)
  const response = new DecodedResponse(message)
  while (reader.position < message.length) {
    const start = reader.position
    const tag = reader.varint()
    switch (tag) {
      case 0x0a: // header
        response.header = readHeader(reader, reader.end())
        break
      case 0x10:
        response.watchId = reader.int64()
        break
      case 0x18:
        response.created = reader.varint() !== 0
        break
      case 0x20:
        response.canceled = reader.varint() !== 0
        break
      case 0x28:
        response.compactRevision = reader.int64()
        break
      case 0x32: {
        const end = reader.end()
        response.cancelReason = message.toString("utf8", reader.position, end)
        reader.position = end
        break
      }
      case 0x38:
        response.fragment = reader.varint() !== 0
        break
      case eventTag:
        response.firstEvent ??= start
        reader.skip(tag)
        break
      default:
        reader.skip(tag)
    }
  }
  return response
}

const eventTag = 0x5a

/** The maximum number of events decoded before other work gets a turn. */
const eventsPerTurn = 8192

/** Smaller responses are decoded in one step, and only when their events are read. */
const bytesPerTurn = 512 * 1024

class DecodedResponse implements Response {
  readonly #reader: Reader
  readonly #events: Array<WireEvent> = []
  /** The position of the first event in the message. */
  firstEvent: number | undefined
  header = noHeader
  watchId = 0
  created = false
  canceled = false
  compactRevision = 0
  cancelReason = ""
  fragment = false

  constructor(message: Buffer) {
    this.#reader = new Reader(message)
  }

  get hasEvents(): boolean {
    return this.firstEvent !== undefined
  }

  get events(): ReadonlyArray<WireEvent> {
    this.#decode(Number.POSITIVE_INFINITY)
    return this.#events
  }

  decodeEvents(): boolean {
    return this.#reader.bytes.length < bytesPerTurn || this.#decode(eventsPerTurn)
  }

  #decode(most: number): boolean {
    if (this.firstEvent === undefined) return true
    const reader = this.#reader
    const events = this.#events
    if (reader.position === 0) reader.position = this.firstEvent
    const until = events.length + most
    while (reader.position < reader.bytes.length) {
      if (events.length >= until) return false
      const tag = reader.varint()
      if (tag === eventTag) events.push(event(reader, reader.end()))
      else reader.skip(tag)
    }
    return true
  }
}

const event = (reader: Reader, end: number): WireEvent => {
  let isDelete = false
  let kv: WireKeyValue | undefined
  let previous: WireKeyValue | undefined
  while (reader.position < end) {
    const tag = reader.varint()
    switch (tag) {
      case 0x08:
        isDelete = reader.varint() === 1
        break
      case 0x12:
        kv = readKeyValue(reader, reader.end())
        break
      case 0x1a:
        previous = readKeyValue(reader, reader.end())
        break
      default:
        reader.skip(tag)
    }
  }
  if (kv === undefined) throw new Error("an event has no key")
  return { isDelete, kv, previous }
}
