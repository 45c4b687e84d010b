/**
 * Decodes etcd's responses, straight into those of operations.
 *
 * etcd3's protobuf library makes each message twice and each number three times, which takes longer than all the rest of a
 * batched call. Fields are numbered as in etcd's `rpc.proto` and `kv.proto`; unknown ones are skipped.
 */
import * as Entry from "@effect-kv/core/Entry"
import * as Op from "@effect-kv/core/Op"
import * as Option from "effect/Option"
import { decodeKey } from "./codec.ts"
import { type Header, noHeader, readHeader } from "./header.ts"
import { Reader } from "./wireReader.ts"

/** Decodes a `RangeResponse`. */
export const decodeRange = (message: Buffer, revision = headerOf(message).revision): Op.RangeResponse =>
  range(new Reader(message), message.length, revision)

/** Decodes a `PutResponse`. */
export const decodePut = (message: Buffer, revision = headerOf(message).revision): Op.PutResponse =>
  put(new Reader(message), message.length, revision)

/** Decodes a `DeleteRangeResponse`. */
export const decodeDelete = (message: Buffer, revision = headerOf(message).revision): Op.DeleteResponse =>
  delete_(new Reader(message), message.length, revision)

/** Decodes a `TxnResponse`. */
export const decodeTxn = (message: Buffer, revision = headerOf(message).revision): Op.TxnResponse =>
  txn(new Reader(message), message.length, revision)

/** The header of any response. The responses within a transaction have no revision that means anything. */
export const headerOf = (message: Buffer): Header => {
  const reader = new Reader(message)
  while (reader.position < message.length) {
    const tag = reader.varint()
    if (tag === 0x0a) return readHeader(reader, reader.end())
    reader.skip(tag)
  }
  return noHeader
}

const range = (reader: Reader, end: number, revision: bigint): Op.RangeResponse => {
  const entries: Array<Entry.Entry> = []
  let more = false
  let count = 0
  while (reader.position < end) {
    const tag = reader.varint()
    switch (tag) {
      case 0x12:
        entries.push(entry(reader, reader.end()))
        break
      case 0x18:
        more = reader.varint() !== 0
        break
      case 0x20:
        count = reader.int64()
        break
      default:
        reader.skip(tag)
    }
  }
  return Op.rangeResponse({ revision, entries, count, more })
}

const put = (reader: Reader, end: number, revision: bigint): Op.PutResponse => {
  let previous = Option.none<Entry.Entry>()
  while (reader.position < end) {
    const tag = reader.varint()
    if (tag === 0x12) previous = Option.some(entry(reader, reader.end()))
    else reader.skip(tag)
  }
  return Op.putResponse({ revision, previous })
}

const delete_ = (reader: Reader, end: number, revision: bigint): Op.DeleteResponse => {
  const previous: Array<Entry.Entry> = []
  let deleted = 0
  while (reader.position < end) {
    const tag = reader.varint()
    switch (tag) {
      case 0x10:
        deleted = reader.int64()
        break
      case 0x1a:
        previous.push(entry(reader, reader.end()))
        break
      default:
        reader.skip(tag)
    }
  }
  return Op.deleteResponse({ revision, deleted, previous })
}

const txn = (reader: Reader, end: number, revision: bigint): Op.TxnResponse => {
  const responses: Array<Op.Response<Op.Op>> = []
  let succeeded = false
  while (reader.position < end) {
    const tag = reader.varint()
    switch (tag) {
      case 0x10:
        succeeded = reader.varint() !== 0
        break
      case 0x1a:
        responses.push(responseOp(reader, reader.end(), revision))
        break
      default:
        reader.skip(tag)
    }
  }
  return Op.txnResponse({ revision, succeeded, responses })
}

const responseOp = (reader: Reader, end: number, revision: bigint): Op.Response<Op.Op> => {
  let response: Op.Response<Op.Op> | undefined
  while (reader.position < end) {
    const tag = reader.varint()
    switch (tag) {
      case 0x0a:
        response = range(reader, reader.end(), revision)
        break
      case 0x12:
        response = put(reader, reader.end(), revision)
        break
      case 0x1a:
        response = delete_(reader, reader.end(), revision)
        break
      case 0x22:
        response = txn(reader, reader.end(), revision)
        break
      default:
        reader.skip(tag)
    }
  }
  if (response === undefined) throw new Error("a response of a transaction that is none of those known")
  return response
}

const entry = (reader: Reader, end: number): Entry.Entry => {
  const { bytes } = reader
  let key = ""
  let value: Entry.Value = ""
  let createRevision = 0n
  let modRevision = 0n
  let version = 0
  let lease = 0n
  while (reader.position < end) {
    const tag = reader.varint()
    switch (tag) {
      case 0x0a: {
        const keyEnd = reader.end()
        key = keyOf(bytes, reader.position, keyEnd)
        reader.position = keyEnd
        break
      }
      case 0x10:
        createRevision = reader.bigint()
        break
      case 0x18:
        modRevision = reader.bigint()
        break
      case 0x20:
        version = reader.int64()
        break
      case 0x2a: {
        const valueEnd = reader.end()
        value = valueOf(bytes, reader.position, valueEnd)
        reader.position = valueEnd
        break
      }
      case 0x30:
        lease = reader.bigint()
        break
      default:
        reader.skip(tag)
    }
  }
  return Entry.make({ key, value, createRevision, modRevision, version, lease: Entry.leaseOf(lease) })
}

/** What bytes that are not UTF-8 decode to; but it can be meant as well. */
const replacement = "\ufffd"

const keyOf = (bytes: Buffer, start: number, end: number): string => {
  const key = bytes.toString("utf8", start, end)
  return key.includes(replacement) ? decodeKey(bytes.subarray(start, end)) : key
}

/** Up to this length a value is likely to be text, and decoded more cheaply than it is copied. */
const shortValue = 4096

/** Nothing that keeps the message in memory, unless it is most of it: one small entry may be all that is kept of it. */
const valueOf = (bytes: Buffer, start: number, end: number): Entry.Value => {
  if (end - start <= shortValue) {
    const text = bytes.toString("utf8", start, end)
    if (!text.includes(replacement)) return text
  }
  const view = bytes.subarray(start, end)
  return view.length * 2 > bytes.buffer.byteLength ? view : new Uint8Array(view)
}
