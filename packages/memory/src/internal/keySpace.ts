/**
 * The keys and their versions: a `Map` to find one key, and an ordered index of the existing keys to read a range.
 */
import { Deque } from "./deque.ts"
import { OrderedIndex } from "./orderedIndex.ts"
import { isPresent, KeySlot, type Version } from "./version.ts"

export class KeySpace {
  /** The keys that exist, in order. */
  readonly present = new OrderedIndex<KeySlot>()
  /**
   * The current version of each key, including tombstones. Versions rather than slots: this saves a cache miss per
   * read.
   */
  readonly #versions = new Map<string, Version>()

  /** How many keys exist or are in the history. */
  get known(): number {
    return this.#versions.size
  }

  /** The version of a key; `undefined` if the key does not exist. */
  get(key: string): Version | undefined {
    const version = this.#versions.get(key)
    return version !== undefined && isPresent(version) ? version : undefined
  }

  /** The version of a key at a revision that is not compacted; `undefined` if the key did not exist then. */
  getAt(key: string, revision: number): Version | undefined {
    const version = this.#versions.get(key)
    return version === undefined ? undefined : versionAt(version.slot, revision)
  }

  /** The key's slot; a new one if the key is unknown. */
  slot(key: string): KeySlot {
    return this.#versions.get(key)?.slot ?? new KeySlot(key)
  }

  /** Adds a version to its slot. */
  add(version: Version): void {
    const { previous, slot } = version
    const wasPresent = previous !== undefined && isPresent(previous)
    if (previous?.previous !== undefined) (slot.older ??= new Deque()).push(previous.previous)
    slot.current = version
    this.#versions.set(slot.key, version)
    if (isPresent(version) === wasPresent) return
    if (wasPresent) this.present.remove(slot.key)
    else this.present.insert(slot)
  }

  /** Forgets the versions before this one, and the key itself if this one is a tombstone and still the last. */
  forgetBefore(version: Version): void {
    const slot = version.slot
    if (version.previous !== undefined) {
      version.previous = undefined
      slot.older?.dropFirst()
      if (slot.older?.length === 0) slot.older = undefined
    }
    if (slot.current === version && !isPresent(version)) this.#versions.delete(slot.key)
  }
}

/** The slot's version if the key exists. */
export const currentVersion = (slot: KeySlot | undefined): Version | undefined => {
  const current = slot?.current
  return current !== undefined && isPresent(current) ? current : undefined
}

/** The slot's version at a revision that is not compacted, if the key existed then. */
export const versionAt = (slot: KeySlot, revision: number): Version | undefined => {
  const version = lastUntil(slot, revision)
  return version !== undefined && isPresent(version) ? version : undefined
}

const lastUntil = ({ current, older }: KeySlot, revision: number): Version | undefined => {
  if (current === undefined || current.revision <= revision) return current
  if (current.previous === undefined || current.previous.revision <= revision) return current.previous
  if (older === undefined) return undefined
  const after = older.firstWhere((version) => version.revision > revision)
  return after === older.first ? undefined : older.at(after - 1)
}
