/**
 * A view of a store at one moment, for the model and the checkers.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type { ModelRow } from "../history/rows.ts"

/** A view of a store at one moment. */
export interface View {
  readonly get: (key: string) => ModelRow | undefined
  /** The rows in a range, in key order. */
  readonly within: (range: KeyRange.KeyRange) => ReadonlyArray<ModelRow>
  /** Whether the lease has ended, if known. */
  readonly isEnded?: (lease: bigint) => boolean
}

/** The view after some writes. */
export const withWrites = (view: View, writes: ReadonlyMap<string, ModelRow | undefined>): View => ({
  isEnded: (lease) => view.isEnded?.(lease) === true,
  get: (key) => writes.has(key) ? writes.get(key) : view.get(key),
  within: (range) => {
    const rows = view.within(range)
    const changed = Array.from(writes.keys()).filter((key) => KeyRange.contains(range, key))
    if (changed.length === 0) return rows
    const written = changed.map((key) => writes.get(key)).filter((row) => row !== undefined)
    return [...rows.filter((row) => !writes.has(row.key)), ...written].sort((a, b) =>
      KeyRange.compareKeys(a.key, b.key)
    )
  }
})
