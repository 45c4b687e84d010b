/**
 * The decoder of `mvccpb.KeyValue`, shared by responses and watch events. Fields are numbered as in etcd's `kv.proto`.
 */
import * as Entry from "@effect-kv/core/Entry"
import { decodeKey } from "./codec.ts"
import type { Reader } from "./wireReader.ts"

/** A decoded key-value. Its key and value are still parts of the message. */
export interface WireKeyValue {
  readonly message: Buffer
  readonly keyStart: number
  readonly keyEnd: number
  readonly valueStart: number
  readonly valueEnd: number
  readonly createRevision: bigint
  readonly modRevision: bigint
  readonly version: number
  readonly lease: bigint
}

/** Reads a key-value that ends at `end`. */
export const readKeyValue = (reader: Reader, end: number): WireKeyValue => {
  let keyStart = 0
  let keyEnd = 0
  let valueStart = 0
  let valueEnd = 0
  let createRevision = 0n
  let modRevision = 0n
  let version = 0
  let lease = 0n
  while (reader.position < end) {
    const tag = reader.varint()
    switch (tag) {
      case 0x0a:
        keyEnd = reader.end()
        keyStart = reader.position
        reader.position = keyEnd
        break
      case 0x10:
        createRevision = reader.bigint()
        break
      case 0x18:
        modRevision = reader.bigint()
        break
      case 0x20:
        version = reader.int64()
        break
      case 0x2a:
        valueEnd = reader.end()
        valueStart = reader.position
        reader.position = valueEnd
        break
      case 0x30:
        lease = reader.bigint()
        break
      default:
        reader.skip(tag)
    }
  }
  return {
    message: reader.bytes,
    keyStart,
    keyEnd,
    valueStart,
    valueEnd,
    createRevision,
    modRevision,
    version,
    lease
  }
}

/** The key-value as an entry. Throws `NotUtf8` if its key is not UTF-8. */
export const toEntry = (kv: WireKeyValue, key = keyOf(kv)): Entry.Entry =>
  Entry.make({
    key,
    value: valueOf(kv),
    createRevision: kv.createRevision,
    modRevision: kv.modRevision,
    version: kv.version,
    lease: Entry.leaseOf(kv.lease)
  })

/** Invalid UTF-8 decodes to this character, but a key or a value may also contain it. */
const replacement = "\ufffd"

/** The key. Throws `NotUtf8` if it is not UTF-8. */
export const keyOf = ({ keyEnd, keyStart, message }: WireKeyValue): string => {
  const key = message.toString("utf8", keyStart, keyEnd)
  return key.includes(replacement) ? decodeKey(message.subarray(keyStart, keyEnd)) : key
}

/** Values up to this length are usually text, and decoding them costs less than a copy. */
const shortValue = 4096

/** The value, copied unless it is most of the message: a view would keep the whole message in memory. */
const valueOf = ({ message, valueEnd, valueStart }: WireKeyValue): Entry.Value => {
  if (valueEnd - valueStart <= shortValue) {
    const text = message.toString("utf8", valueStart, valueEnd)
    if (!text.includes(replacement)) return text
  }
  const view = message.subarray(valueStart, valueEnd)
  return view.length * 2 > message.buffer.byteLength ? view : new Uint8Array(view)
}
