/**
 * The codec of etcd's method `Status`. Fields are numbered as in etcd's `rpc.proto`.
 */
import { type Header, noHeader, readHeader } from "./header.ts"
import { Reader } from "./wireReader.ts"

/** `etcdserverpb.StatusResponse`, without its unused fields. */
export interface MemberStatus {
  readonly header: Header
  /** For example `3.7.0`. */
  readonly version: string
  /** In bytes. */
  readonly dbSize: number
  /** In bytes; 0 before etcd 3.4. */
  readonly dbSizeInUse: number
  /** In bytes; 0 before etcd 3.6. */
  readonly dbSizeQuota: number
  /** The id of the leader that the member knows; `0n` if it knows none. */
  readonly leader: bigint
  readonly isLearner: boolean
  /** `etcdserver: no leader`, and the alarms. */
  readonly errors: ReadonlyArray<string>
}

/** Decodes a `StatusResponse`. */
export const decodeStatus = (message: Buffer): MemberStatus => {
  const reader = new Reader(message)
  const errors: Array<string> = []
  let header = noHeader
  let version = ""
  let dbSize = 0
  let dbSizeInUse = 0
  let dbSizeQuota = 0
  let leader = 0n
  let isLearner = false
  while (reader.position < message.length) {
    const tag = reader.varint()
    switch (tag) {
      case 0x0a:
        header = readHeader(reader, reader.end())
        break
      case 0x12:
        version = readText(reader)
        break
      case 0x18:
        dbSize = reader.int64()
        break
      case 0x20:
        leader = BigInt.asUintN(64, reader.bigint())
        break
      case 0x42:
        errors.push(readText(reader))
        break
      case 0x48:
        dbSizeInUse = reader.int64()
        break
      case 0x50:
        isLearner = reader.varint() !== 0
        break
      case 0x60:
        dbSizeQuota = reader.int64()
        break
      default:
        reader.skip(tag)
    }
  }
  return { header, version, dbSize, dbSizeInUse, dbSizeQuota, leader, isLearner, errors }
}

const readText = (reader: Reader): string => {
  const end = reader.end()
  const text = reader.bytes.toString("utf8", reader.position, end)
  reader.position = end
  return text
}
