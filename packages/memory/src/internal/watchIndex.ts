/**
 * Finds the watches that a write concerns, so that a write pays for those and for no other.
 *
 * Watches of one key are in a `Map`, watches of a range in an interval tree; and a key that no watch matched is
 * remembered as such until another watch is added.
 */
import { singleKey } from "./interval.ts"
import { IntervalTree } from "./intervalTree.ts"
import type { Version } from "./version.ts"
import type { WatchState } from "./watchState.ts"

export class WatchIndex {
  readonly #byKey = new Map<string, Set<WatchState>>()
  readonly #byRange = new IntervalTree<WatchState>()
  /** Counts the watches ever added: identifies what "no watch matched this key" was said of. */
  #added = 0
  size = 0

  add(watch: WatchState): void {
    this.size++
    this.#added++
    const key = singleKey(watch.range)
    if (key === undefined) return this.#byRange.add(watch)
    const watches = this.#byKey.get(key)
    if (watches === undefined) this.#byKey.set(key, new Set([watch]))
    else watches.add(watch)
  }

  /** Removes a watch that is in the index. */
  remove(watch: WatchState): void {
    this.size--
    const key = singleKey(watch.range)
    if (key === undefined) return this.#byRange.remove(watch)
    const watches = this.#byKey.get(key)!
    watches.delete(watch)
    if (watches.size === 0) this.#byKey.delete(key)
  }

  /** Tells each watch that matches of a write at a position in the log. */
  notify(version: Version, position: number): void {
    const slot = version.slot
    if (this.size === 0 || slot.unwatchedIn === this.#added) return
    let isWatched = false
    const offer = (watch: WatchState): void => {
      isWatched = true
      watch.offer(version, position)
    }
    this.#byKey.get(slot.key)?.forEach(offer)
    this.#byRange.forEachContaining(slot.key, offer)
    if (!isWatched) slot.unwatchedIn = this.#added
  }
}
