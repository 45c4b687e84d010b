/**
 * The codec of etcd's method `MemberList`. Fields are numbered as in etcd's `rpc.proto`.
 */
import { type Header, noHeader, readHeader } from "./header.ts"
import { Reader } from "./wireReader.ts"
import { Writer } from "./wireWriter.ts"

/** `etcdserverpb.Member`, without its unused fields. */
export interface Member {
  /** Empty until the member has started for the first time. */
  readonly clientUrls: ReadonlyArray<string>
  /** A learner serves neither linearizable reads nor writes. */
  readonly isLearner: boolean
}

/** `etcdserverpb.MemberListResponse`. */
export interface MemberList {
  readonly header: Header
  readonly members: ReadonlyArray<Member>
}

/** Encodes a `MemberListRequest`. etcd 3.4 ignores `linearizable`, and responds with what the member knows. */
export const encodeMemberList = (linearizable: boolean): Buffer => {
  const writer = new Writer()
  writer.flag(0x08, linearizable)
  return writer.finish()
}

/** Decodes a `MemberListResponse`. */
export const decodeMemberList = (message: Buffer): MemberList => {
  const reader = new Reader(message)
  const members: Array<Member> = []
  let header = noHeader
  while (reader.position < message.length) {
    const tag = reader.varint()
    switch (tag) {
      case 0x0a:
        header = readHeader(reader, reader.end())
        break
      case 0x12:
        members.push(readMember(reader, reader.end()))
        break
      default:
        reader.skip(tag)
    }
  }
  return { header, members }
}

const readMember = (reader: Reader, end: number): Member => {
  const clientUrls: Array<string> = []
  let isLearner = false
  while (reader.position < end) {
    const tag = reader.varint()
    switch (tag) {
      case 0x22: {
        const endOfUrl = reader.end()
        clientUrls.push(reader.bytes.toString("utf8", reader.position, endOfUrl))
        reader.position = endOfUrl
        break
      }
      case 0x28:
        isLearner = reader.varint() !== 0
        break
      default:
        reader.skip(tag)
    }
  }
  return { clientUrls, isLearner }
}
