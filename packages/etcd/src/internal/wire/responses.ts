/**
 * The decoder of etcd's responses. It decodes directly into the responses of operations.
 *
 * etcd3's protobuf library creates each message twice and each number three times, which takes longer than the rest of
 * a batched call. Fields are numbered as in etcd's `rpc.proto`. Unknown fields are skipped.
 */
import type * as Entry from "@effect-kv/core/Entry"
import * as Op from "@effect-kv/core/Op"
import * as Option from "effect/Option"
import { type Header, noHeader, readHeader } from "./header.ts"
import { readKeyValue, toEntry } from "./keyValue.ts"
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

/** The header of any response. Responses inside a transaction have no meaningful header. */
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
  if (response === undefined) throw new Error("a transaction contains a response of an unknown type")
  return response
}

const entry = (reader: Reader, end: number): Entry.Entry => toEntry(readKeyValue(reader, end))
