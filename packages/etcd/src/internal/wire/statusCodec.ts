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
  /** What the member reports: its alarms, and that it has no leader. */
  readonly errors: ReadonlyArray<string>
}

/** Decodes a `StatusResponse`. */
export const decodeStatus = (message: Buffer): MemberStatus => {
  const reader = new Reader(message)
  let header = noHeader
  let version = ""
  const errors: Array<string> = []
  while (reader.position < message.length) {
    const tag = reader.varint()
    switch (tag) {
      case 0x0a:
        header = readHeader(reader, reader.end())
        break
      case 0x12: {
        const end = reader.end()
        version = message.toString("utf8", reader.position, end)
        reader.position = end
        break
      }
      case 0x42: {
        const end = reader.end()
        errors.push(message.toString("utf8", reader.position, end))
        reader.position = end
        break
      }
      default:
        reader.skip(tag)
    }
  }
  return { header, version, errors }
}
