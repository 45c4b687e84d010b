/**
 * The counters that locks protect, by the store's own history: whoever writes has read while it held the lock, and holds it
 * still. So each write adds one to what was there, and one that comes too late shows, whatever its client was told.
 */
import type { EtcdCluster } from "@effect-kv/test-suite/verification"
import * as locks from "./work/locks.ts"

/** Writes that did not add one, in words. */
export const find = (changes: ReadonlyArray<EtcdCluster.HistoryEvent>, prefix: string): ReadonlyArray<string> =>
  locks.lockNames(prefix).flatMap((lock) => {
    const counter = locks.counterOf(lock)
    let count = 0
    return changes.filter(({ key }) => key === counter).flatMap(({ modRevision, value }) => {
      const before = count
      count = locks.countOf(value)
      return count === before + 1
        ? []
        : [
          `${counter} went from ${before} to ${
            JSON.stringify(value)
          } at revision ${modRevision}: written without the lock`
        ]
    })
  })
