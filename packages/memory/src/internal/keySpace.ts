/**
 * The keys and their versions: a `Map` to find one key, an ordered index of the keys that exist to read a range.
 */
import { Deque } from "./deque.ts"
import { OrderedIndex } from "./orderedIndex.ts"
import { isPresent, Slot, type Version } from "./version.ts"

export class KeySpace {
  /** The keys that exist, in order. */
  readonly present = new OrderedIndex<Slot>()
  /** The current version of each key, tombstones too. Not the slots: a read would be a look at memory slower. */
  readonly #versions = new Map<string, Version>()

  /** How many keys exist or are in the history. */
  get known(): number {
    return this.#versions.size
  }

  /** The version of a key that exists. */
  get(key: string): Version | undefined {
    const version = this.#versions.get(key)
    return version !== undefined && isPresent(version) ? version : undefined
  }

  /** The version of a key that existed at a revision that is not compacted. */
  getAt(key: string, revision: number): Version | undefined {
    const version = this.#versions.get(key)
    return version === undefined ? undefined : versionAt(version.slot, revision)
  }

  /** The key's slot, where a write can be added to. */
  slot(key: string): Slot {
    return this.#versions.get(key)?.slot ?? new Slot(key)
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

  /** Forgets what came before a version, and the key itself if the version is a tombstone and still the last. */
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
export const currentVersion = (slot: Slot | undefined): Version | undefined => {
  const current = slot?.current
  return current !== undefined && isPresent(current) ? current : undefined
}

/** The slot's version at a revision that is not compacted, if the key existed then. */
export const versionAt = (slot: Slot, revision: number): Version | undefined => {
  const version = lastUntil(slot, revision)
  return version !== undefined && isPresent(version) ? version : undefined
}

const lastUntil = ({ current, older }: Slot, revision: number): Version | undefined => {
  if (current === undefined || current.revision <= revision) return current
  if (current.previous === undefined || current.previous.revision <= revision) return current.previous
  if (older === undefined) return undefined
  const after = older.firstWhere((version) => version.revision > revision)
  return after === older.first ? undefined : older.at(after - 1)
}
