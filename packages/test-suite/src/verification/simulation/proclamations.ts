/**
 * What leaders proclaim, by the store's own history: only while they lead, and never an earlier value after a later one.
 */
import type { Change } from "../history/Changes.ts"
import { lock, proclamation } from "../workload/counter.ts"

/** The proclamations that were late. */
export const late = (changes: ReadonlyArray<Change>, prefix: string): ReadonlyArray<string> => {
  const latest = new Map<bigint, number>()
  const value = new RegExp(`^${proclamation} (\\d+) (\\d+)$`)
  return changes.flatMap(({ createRevision, key, modRevision, type, valueBytes }) => {
    if (type === "delete" || !key.startsWith(`${prefix}${lock}/`)) return []
    const [, token, number] = value.exec(new TextDecoder().decode(valueBytes)) ?? []
    if (token === undefined) return []
    const before = latest.get(createRevision) ?? 0
    latest.set(createRevision, Number(number))
    // A key that moves to another lease is put again, with the value that it has.
    return BigInt(token) === createRevision && Number(number) >= before
      ? []
      : [`proclamation ${number} with token ${token} was written late at revision ${modRevision}, to ${key}`]
  })
}
