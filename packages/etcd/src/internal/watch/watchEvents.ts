/**
 * Makes batches, one per revision, of the events of the wire. This is the hot path of a watch.
 */
import * as Entry from "@effect-kv/core/Entry"
import * as KvError from "@effect-kv/core/KvError"
import { deleteEvent, type Event, putEvent, type Revision, revision as makeRevision } from "@effect-kv/core/Watch"
import * as Option from "effect/Option"
import { decodeKey, NotUtf8 } from "../wire/codec.ts"
import type { Segment } from "./watchBuffer.ts"
import type { WireEvent, WireKeyValue } from "./watchWire.ts"

/** What became of segments: batches, and the error that ends the watch after them. */
export interface Decoded {
  readonly batches: Array<Revision>
  readonly error: KvError.KvError | undefined
}

/** At most about so many events are decoded without giving other work a turn. */
const eventsPerTurn = 8192

/** Segments while they are decoded. */
export interface Decoding {
  /** Decodes a part. `undefined` if more is to be done. */
  readonly next: () => Decoded | undefined
}

/** Decodes segments, turn by turn. No revision goes across segments. */
export const decode = (segments: ReadonlyArray<Segment>): Decoding => {
  const batches: Array<Revision> = []
  let segment = 0
  let index = 0
  /** The events of the revision at `index` that are decoded already. */
  let events: [Event, ...Array<Event>] | undefined
  const decodeUntil = (budget: number): boolean => {
    let left = budget
    for (; segment < segments.length; segment++, index = 0) {
      const wire = segments[segment]!
      while (index < wire.length) {
        const { modRevision } = wire[index]!.kv
        const revision = BigInt(modRevision)
        events ??= [toEvent(wire[index++]!, revision)]
        for (; index < wire.length && wire[index]!.kv.modRevision === modRevision; index++) {
          if (left-- <= 0) return false
          events.push(toEvent(wire[index]!, revision))
        }
        batches.push(makeRevision(events[0].revision, events))
        events = undefined
      }
    }
    return true
  }
  return {
    next: () => {
      try {
        return decodeUntil(eventsPerTurn) ? { batches, error: undefined } : undefined
      } catch (error) {
        if (error instanceof NotUtf8) return { batches, error: notUtf8(error) }
        throw error
      }
    }
  }
}

const toEvent = (wire: WireEvent, revision: bigint): Event => {
  const { isDelete, kv } = wire
  const key = keyOf(kv)
  const previous = wire.previous === undefined
    ? Option.none()
    : Option.some(toEntry(key, wire.previous, BigInt(wire.previous.modRevision)))
  if (isDelete) return deleteEvent({ key, revision, previous })
  const isCreate = kv.createRevision === kv.modRevision
  return putEvent({ key, revision, entry: toEntry(key, kv, revision), isCreate, previous })
}

const toEntry = (key: string, kv: WireKeyValue, modRevision: bigint): Entry.Entry =>
  Entry.make({
    key,
    value: valueOf(kv),
    createRevision: kv.createRevision === kv.modRevision ? modRevision : BigInt(kv.createRevision),
    modRevision,
    version: kv.version,
    lease: Entry.leaseOf(kv.lease)
  })

const keyOf = (kv: WireKeyValue): string => {
  const key = kv.message.toString("utf8", kv.keyStart, kv.keyEnd)
  // What is not UTF-8 decodes to U+FFFD, which can be meant as well.
  return key.includes("\ufffd") ? decodeKey(kv.message.subarray(kv.keyStart, kv.keyEnd)) : key
}

/** A copy, unless it is most of the message: an entry that is kept would keep the whole message in memory. */
const valueOf = ({ message, valueEnd, valueStart }: WireKeyValue): Uint8Array => {
  const view = message.subarray(valueStart, valueEnd)
  return view.length * 2 > message.buffer.byteLength ? view : new Uint8Array(view)
}

const notUtf8 = (error: NotUtf8): KvError.KvError =>
  KvError.make(new KvError.InvalidRequest({ message: error.message }))

/** Where the revision that the last event belongs to begins. */
export const lastRevisionStart = (events: ReadonlyArray<WireEvent>): number => {
  let start = events.length - 1
  const revision = events[start]!.kv.modRevision
  while (start > 0 && events[start - 1]!.kv.modRevision === revision) start--
  return start
}

/** The index of the first event of `revision` or later. Events come in the order of their revisions. */
export const indexOfRevision = (events: ReadonlyArray<WireEvent>, revision: bigint): number => {
  let index = 0
  while (index < events.length && events[index]!.kv.modRevision < revision) index++
  return index
}

/** About what an event weighs in memory beyond its key and values. */
const eventOverhead = 256

/** About what the events weigh in memory. */
export const sizeOf = (events: ReadonlyArray<WireEvent>): number => {
  let bytes = events.length * eventOverhead
  for (const { kv, previous } of events) {
    bytes += kv.keyEnd - kv.keyStart + kv.valueEnd - kv.valueStart
    if (previous !== undefined) bytes += previous.valueEnd - previous.valueStart + eventOverhead
  }
  return bytes
}
