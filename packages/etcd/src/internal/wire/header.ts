/**
 * The header of etcd's responses: which member of which cluster answered, and the revision its store had.
 */
import type { Reader } from "./wireReader.ts"

/** `etcdserverpb.ResponseHeader`, without the fields that nothing here needs. */
export interface Header {
  /** `0n` if the response does not say, as some responses of `etcd grpc-proxy` do not. */
  readonly clusterId: bigint
  /** `0n` if the response does not say. */
  readonly memberId: bigint
  /** `0n` if the response does not say. */
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

/** The id that was read last. Nearly every response has the same, and a 64-bit integer is costly to decode. */
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
  // The last byte of a varint is the first below 0x80: what begins with the same varint is the same number.
  if (length === known.length) {
    reader.position = position + length
    return last.id
  }
  last.id = BigInt.asUintN(64, reader.bigint64())
  last.bytes = Buffer.from(bytes.subarray(position, reader.position))
  return last.id
}
