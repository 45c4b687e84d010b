/**
 * The conversion of decoded events to batches, one per revision. This is the hot path of a watch.
 */
import * as KvError from "@effect-kv/core/KvError"
import { deleteEvent, type Event, putEvent, type Revision, revision as makeRevision } from "@effect-kv/core/Watch"
import * as Option from "effect/Option"
import { NotUtf8 } from "../wire/codec.ts"
import { keyOf, toEntry } from "../wire/keyValue.ts"
import type { Segment } from "./watchBuffer.ts"
import type { WireEvent } from "./watchWire.ts"

/** The batches of segments, and the error that ends the watch after them. */
export interface Decoded {
  readonly batches: Array<Revision>
  readonly error: KvError.KvError | undefined
}

/** The approximate maximum of events decoded before other work gets a turn. */
const eventsPerTurn = 8192

/** Segments that are being decoded. */
export interface Decoding {
  /** Decodes a part. Returns `undefined` if more remains. */
  readonly next: () => Decoded | undefined
}

/** Decodes segments in turns. No revision spans segments. */
export const decode = (segments: ReadonlyArray<Segment>): Decoding => {
  const batches: Array<Revision> = []
  let segment = 0
  let index = 0
  /** The decoded events of the revision at `index`. */
  let events: [Event, ...Array<Event>] | undefined
  const decodeUntil = (budget: number): boolean => {
    let left = budget
    for (; segment < segments.length; segment++, index = 0) {
      const wire = segments[segment]!
      while (index < wire.length) {
        const { modRevision } = wire[index]!.kv
        events ??= [toEvent(wire[index++]!, modRevision)]
        for (; index < wire.length && wire[index]!.kv.modRevision === modRevision; index++) {
          if (left-- <= 0) return false
          events.push(toEvent(wire[index]!, modRevision))
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
  const previous = wire.previous === undefined ? Option.none() : Option.some(toEntry(wire.previous, key))
  if (isDelete) return deleteEvent({ key, revision, previous })
  const isCreate = kv.createRevision === kv.modRevision
  return putEvent({ key, revision, entry: toEntry(kv, key), isCreate, previous })
}

const notUtf8 = (error: NotUtf8): KvError.KvError =>
  KvError.make(new KvError.InvalidRequest({ message: error.message }))

/** The index of the first event of the last revision. */
export const lastRevisionStart = (events: ReadonlyArray<WireEvent>): number => {
  let start = events.length - 1
  const revision = events[start]!.kv.modRevision
  while (start > 0 && events[start - 1]!.kv.modRevision === revision) start--
  return start
}

/** The index of the first event at or after `revision`. Events are ordered by revision. */
export const indexOfRevision = (events: ReadonlyArray<WireEvent>, revision: bigint): number => {
  let index = 0
  while (index < events.length && events[index]!.kv.modRevision < revision) index++
  return index
}
