/**
 * The versions of a key: the record that the store keeps of each write. A deletion is a write too; its version is a
 * tombstone.
 */
import * as Entry from "@effect-kv/core/Entry"
import * as Option from "effect/Option"
import type { Deque } from "./deque.ts"

/**
 * The estimated memory of a version besides its key and value, in bytes. Without it many small versions would be free.
 */
const overhead = 256

/** A key that exists, or that is still in the history. */
export class KeySlot {
  readonly key: string
  /** `undefined` only until the first version is added. */
  current: Version | undefined
  /** The versions in the history before the current and the previous one, oldest first. */
  older: Deque<Version> | undefined
  /** The state of the watch index (its count of added watches) in which no watch matched this key. */
  unwatchedIn: number

  constructor(key: string) {
    this.key = key
    this.current = undefined
    this.older = undefined
    this.unwatchedIn = -1
  }
}

/** The fields of an `Entry` and its place in history. Immutable except for that place. */
export class Version implements Omit<Entry.Fields, "lease"> {
  readonly key: string
  readonly value: Entry.Value
  /** `0n` for a tombstone. */
  readonly createRevision: bigint
  readonly modRevision: bigint
  /** 0 for a tombstone. */
  readonly version: number
  /** `0n` for none. */
  readonly lease: bigint
  /** `modRevision` as a number: revisions count up by one and stay far below 2^53. */
  readonly revision: number
  readonly slot: KeySlot
  /** The write before this one to the same key; forgotten when this one's revision is compacted. */
  previous: Version | undefined

  /** Without a `value` it is a tombstone. */
  constructor(
    slot: KeySlot,
    revision: number,
    modRevision: bigint,
    previous: Version | undefined,
    value: Entry.Value | undefined,
    lease: bigint
  ) {
    const isCreate = previous === undefined || !isPresent(previous)
    this.key = slot.key
    this.value = value ?? ""
    this.createRevision = value === undefined ? 0n : isCreate ? modRevision : previous.createRevision
    this.modRevision = modRevision
    this.version = value === undefined ? 0 : isCreate ? 1 : previous.version + 1
    this.lease = lease
    this.revision = revision
    this.slot = slot
    this.previous = previous
  }
}

/** Whether the key exists with this version: it is not a tombstone. */
export const isPresent = (self: Version): boolean => self.version !== 0

/** The estimated memory of a version, in bytes. */
export const weight = (self: Version): number => self.key.length + self.value.length + overhead

/** Makes a new entry for each reader: an entry returns its byte array, which a reader may change. */
export const toEntry = (self: Version): Entry.Entry =>
  Entry.make({
    key: self.key,
    value: self.value,
    createRevision: self.createRevision,
    modRevision: self.modRevision,
    version: self.version,
    lease: Entry.leaseOf(self.lease)
  })

/** The entry without its value and its lease. */
export const toKeyEntry = (self: Version): Entry.Entry =>
  Entry.make({
    key: self.key,
    value: "",
    createRevision: self.createRevision,
    modRevision: self.modRevision,
    version: self.version,
    lease: Option.none()
  })
