/**
 * An index of the open watches that finds the ones a write matches, so that a write does not pay for the others.
 *
 * Watches of one key are in a `Map`, watches of a range in an interval tree. A key that no watch matched is marked as
 * unwatched until another watch is added.
 */
import { singleKey } from "./interval.ts"
import { IntervalTree } from "./intervalTree.ts"
import type { StoreWatch } from "./storeWatch.ts"
import type { Version } from "./version.ts"

export class WatchIndex {
  readonly #byKey = new Map<string, Set<StoreWatch>>()
  readonly #byRange = new IntervalTree<StoreWatch>()
  /** Counts the watches ever added. A key's unwatched mark is valid only for the count at which it was set. */
  #added = 0
  size = 0

  add(watch: StoreWatch): void {
    this.size++
    this.#added++
    const key = singleKey(watch.range)
    if (key === undefined) return this.#byRange.add(watch)
    const watches = this.#byKey.get(key)
    if (watches === undefined) this.#byKey.set(key, new Set([watch]))
    else watches.add(watch)
  }

  /** Removes a watch that is in the index. */
  remove(watch: StoreWatch): void {
    this.size--
    const key = singleKey(watch.range)
    if (key === undefined) return this.#byRange.remove(watch)
    const watches = this.#byKey.get(key)!
    watches.delete(watch)
    if (watches.size === 0) this.#byKey.delete(key)
  }

  /** Notifies each matching watch of a write at a position in the log. */
  notify(version: Version, position: number): void {
    const slot = version.slot
    if (this.size === 0 || slot.unwatchedIn === this.#added) return
    let isWatched = false
    const offer = (watch: StoreWatch): void => {
      isWatched = true
      watch.offer(version, position)
    }
    this.#byKey.get(slot.key)?.forEach(offer)
    this.#byRange.forEachContaining(slot.key, offer)
    if (!isWatched) slot.unwatchedIn = this.#added
  }
}
