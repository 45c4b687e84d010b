/**
 * The header of etcd's responses: which member of which cluster responded, and the revision of its store.
 */
import type { Reader } from "./wireReader.ts"

/** `etcdserverpb.ResponseHeader`, without its unused fields. */
export interface Header {
  /** `0n` if the response has none, as in some responses of `etcd grpc-proxy`. */
  readonly clusterId: bigint
  /** `0n` if the response has none. */
  readonly memberId: bigint
  /** `0n` if the response has none. */
  readonly revision: bigint
}

export const noHeader: Header = { clusterId: 0n, memberId: 0n, revision: 0n }

/** Reads a header that ends at `end`. */
export const readHeader = (reader: Reader, end: number): Header => {
  let clusterId = 0n
  let memberId = 0n
  let revision = 0n
  while (reader.position < end) {
    const tag = reader.varint()
    switch (tag) {
      case 0x08:
        clusterId = readId(reader, lastCluster)
        break
      case 0x10:
        memberId = readId(reader, lastMember)
        break
      case 0x18:
        revision = reader.bigint()
        break
      default:
        reader.skip(tag)
    }
  }
  return { clusterId, memberId, revision }
}

/** The last id that was read. Nearly every response has the same id, and decoding a 64-bit integer is expensive. */
interface Last {
  bytes: Buffer
  id: bigint
}

const lastCluster: Last = { bytes: Buffer.from([0]), id: 0n }
const lastMember: Last = { bytes: Buffer.from([0]), id: 0n }

const readId = (reader: Reader, last: Last): bigint => {
  const { bytes, position } = reader
  const { bytes: known } = last
  let length = 0
  while (length < known.length && bytes[position + length] === known[length]) length++
  // Only the last byte of a varint is below 0x80, so bytes that begin with a whole varint encode the same number.
  if (length === known.length) {
    reader.position = position + length
    return last.id
  }
  last.id = BigInt.asUintN(64, reader.bigint64())
  last.bytes = Buffer.from(bytes.subarray(position, reader.position))
  return last.id
}
