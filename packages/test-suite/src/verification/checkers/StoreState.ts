/**
 * Immutable states of a store, between which a search for an order moves back and forth.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import { type ModelRow, showRow } from "../history/rows.ts"
import { valueKey } from "../history/values.ts"
import type { Write } from "./Model.ts"
import type { View } from "./StoreView.ts"

export class StoreState implements View {
  readonly #rows: ReadonlyMap<string, ModelRow>
  readonly #ended: ReadonlySet<bigint>
  #key: string | undefined

  private constructor(rows: ReadonlyMap<string, ModelRow>, ended: ReadonlySet<bigint>) {
    this.#rows = rows
    this.#ended = ended
  }

  static of(rows: ReadonlyArray<ModelRow>): StoreState {
    return new StoreState(new Map(rows.map((row) => [row.key, row])), new Set())
  }

  /** A key that is equal for equal states. */
  get key(): string {
    return this.#key ??= [
      ...Array.from(this.#rows.values(), keyOf).sort(),
      ...Array.from(this.#ended, (lease) => `${lease}`).sort()
    ].join("|")
  }

  get(key: string): ModelRow | undefined {
    return this.#rows.get(key)
  }

  within(range: KeyRange.KeyRange): ReadonlyArray<ModelRow> {
    if (range._tag === "Key") {
      const row = this.#rows.get(range.key)
      return row === undefined ? [] : [row]
    }
    return Array.from(this.#rows.values())
      .filter((row) => KeyRange.contains(range, row.key))
      .sort((a, b) => KeyRange.compareKeys(a.key, b.key))
  }

  isEnded(lease: bigint): boolean {
    return this.#ended.has(lease)
  }

  write(writes: ReadonlyArray<Write>): StoreState {
    if (writes.length === 0) return this
    const rows = new Map(this.#rows)
    for (const { key, row } of writes) {
      if (row === undefined) rows.delete(key)
      else rows.set(key, row)
    }
    return new StoreState(rows, this.#ended)
  }

  endLease(lease: bigint): StoreState {
    const rows = new Map(Array.from(this.#rows).filter(([, row]) => row.lease !== lease))
    return new StoreState(rows, new Set(this.#ended).add(lease))
  }

  describe(): string {
    const rows = Array.from(this.#rows.values(), showRow)
    return rows.length === 0 ? "an empty store" : `${rows.slice(0, 5).join(", ")}${rows.length > 5 ? ", ..." : ""}`
  }
}

const rowKeys = new WeakMap<ModelRow, string>()

const keyOf = (row: ModelRow): string => {
  const known = rowKeys.get(row)
  if (known !== undefined) return known
  const { createRevision, key, lease, modRevision, value, version } = row
  const made = [JSON.stringify([key, valueKey(value)]), createRevision, modRevision, version, lease].join()
  rowKeys.set(row, made)
  return made
}
