/**
 * The codec of etcd's Lease service. Fields are numbered as in etcd's `rpc.proto`.
 */
import { type Header, noHeader, readHeader } from "./header.ts"
import { Reader } from "./wireReader.ts"
import { Writer } from "./wireWriter.ts"

const writer = new Writer()

/** Encodes a `LeaseGrantRequest`. */
export const encodeGrant = (seconds: number, id: bigint): Buffer => {
  writer.int64Field(0x10, id)
  writer.number(0x08, seconds)
  return writer.finish()
}

/** Encodes a `LeaseRevokeRequest` or a `LeaseKeepAliveRequest`. */
export const encodeId = (id: bigint): Buffer => {
  writer.int64Field(0x08, id)
  return writer.finish()
}

/** Encodes a `LeaseTimeToLiveRequest`. */
export const encodeTimeToLive = (id: bigint, keys: boolean): Buffer => {
  writer.flag(0x10, keys)
  writer.int64Field(0x08, id)
  return writer.finish()
}

/** Any response of the Lease service. Missing fields are 0 or empty. */
export interface LeaseResponse {
  readonly header: Header
  readonly id: bigint
  /** In seconds. Not positive if the lease does not exist. */
  readonly ttl: number
  readonly grantedTtl: number
  readonly keys: ReadonlyArray<Buffer>
}

/** Decodes any response of the Lease service, because all use the same field numbers. */
export const decodeLease = (message: Buffer): LeaseResponse => {
  const reader = new Reader(message)
  const keys: Array<Buffer> = []
  let header = noHeader
  let id = 0n
  let ttl = 0
  let grantedTtl = 0
  while (reader.position < message.length) {
    const tag = reader.varint()
    switch (tag) {
      case 0x0a:
        header = readHeader(reader, reader.end())
        break
      case 0x10:
        id = reader.bigint()
        break
      case 0x18:
        ttl = reader.int64()
        break
      case 0x20:
        grantedTtl = reader.int64()
        break
      case 0x2a: {
        const end = reader.end()
        keys.push(message.subarray(reader.position, end))
        reader.position = end
        break
      }
      default:
        reader.skip(tag)
    }
  }
  return { header, id, ttl, grantedTtl, keys }
}
