/**
 * The model of operations: their effect on a store and their valid responses, by the rules of etcd.
 *
 * It is written from the documentation and shares no code with any backend. The revisions of an entry may be unknown, for
 * example after a lost response. Then a condition on them may go either way, and a response may have any revision.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Op from "@effect-kv/core/Op"
import type * as History from "../history/History.ts"
import { type ModelRow, wrongPrevious, wrongRows } from "../history/rows.ts"
import { choices, type Single, type Taken } from "./conditions.ts"
import { type View, withWrites } from "./StoreView.ts"

/** The new row of a key. Without a row the key is deleted. */
export interface Write {
  readonly key: string
  readonly row: ModelRow | undefined
}

/** The writes of an operation, or why the response is wrong. */
export type Effect =
  | { readonly _tag: "Done"; readonly writes: ReadonlyArray<Write> }
  | { readonly _tag: "Mismatch"; readonly message: string }

/** The store that an operation is executed on. */
export interface Store {
  readonly view: View
  /** The store at a past revision; `undefined` if it is unknown, and reads of it are not checked. */
  readonly at: (revision: bigint) => View | undefined
  /** The revision of the writes; `undefined` if it is unknown. */
  readonly writeRevision: bigint | undefined
}

/**
 * Executes an operation. With a response it returns the execution that agrees with it. Without one it returns all possible
 * executions, which are several only if a condition is on an unknown revision.
 */
export const execute = (store: Store, op: Op.Op, response: History.OpResponse | undefined): ReadonlyArray<Effect> =>
  choices(store.view, op, response).map((taken): Effect => {
    if (typeof taken === "string") return { _tag: "Mismatch", message: taken }
    const execution = new Execution(store)
    const message = execution.run(taken, response)
    return message === undefined ? { _tag: "Done", writes: execution.writes } : { _tag: "Mismatch", message }
  })

// -----------------------------------------------------------------------------
// operations
// -----------------------------------------------------------------------------

/** One execution of an operation. Its methods return the problem with a response, if any. */
class Execution {
  readonly writes: Array<Write> = []
  readonly #written = new Map<string, ModelRow | undefined>()
  readonly #store: Store
  readonly #view: View

  constructor(store: Store) {
    this.#store = store
    this.#view = withWrites(store.view, this.#written)
  }

  run(op: Single | Taken, response: History.OpResponse | undefined): string | undefined {
    switch (op._tag) {
      case "Range":
        return response?._tag === "Range" ? this.#range(op, response) : undefined
      case "Put":
        return this.#put(op, response?._tag === "Put" ? response : undefined)
      case "Delete":
        return this.#delete(op, response?._tag === "Delete" ? response : undefined)
      case "Taken": {
        const responses = response?._tag === "Txn" ? response.responses : []
        for (const [i, inner] of op.ops.entries()) {
          const innerResponse = responses[i]
          if (innerResponse !== undefined && innerResponse.revision !== response?.revision) {
            return `a response in it has revision ${innerResponse.revision}, and the transaction has ${response?.revision}`
          }
          const problem = this.run(inner, innerResponse)
          if (problem !== undefined) return problem
        }
        return undefined
      }
    }
  }

  #put(op: Op.Put, response: Extract<History.OpResponse, { _tag: "Put" }> | undefined): string | undefined {
    if (op.lease !== undefined && this.#view.isEnded?.(op.lease) === true) {
      return `its lease ${op.lease.toString(16)} has ended`
    }
    const before = this.#view.get(op.key)
    this.#write(op.key, {
      key: op.key,
      value: op.value,
      createRevision: before === undefined ? this.#store.writeRevision : before.createRevision,
      modRevision: this.#store.writeRevision,
      version: (before?.version ?? 0) + 1,
      lease: op.lease ?? 0n
    })
    return response === undefined
      ? undefined
      : wrongPrevious(op.previous === true ? before : undefined, response.previous)
  }

  #delete(op: Op.Delete, response: Extract<History.OpResponse, { _tag: "Delete" }> | undefined): string | undefined {
    const rows = this.#view.within(op.range)
    for (const row of rows) this.#write(row.key, undefined)
    if (response === undefined) return undefined
    if (response.deleted !== rows.length) {
      return `it deleted ${rows.length} keys, and the response says ${response.deleted}`
    }
    return wrongRows("deleted", op.previous === true ? rows : [], response.previous)
  }

  #write(key: string, row: ModelRow | undefined): void {
    this.#written.set(key, row)
    this.writes.push({ key, row })
  }

  #range(op: Op.Range, response: Extract<History.OpResponse, { _tag: "Range" }>): string | undefined {
    if (op.revision !== undefined && op.revision > response.revision) {
      return `it read at revision ${op.revision}, and the store was at ${response.revision}`
    }
    const view = op.revision === undefined ? this.#view : this.#store.at(op.revision)
    if (view === undefined) return undefined
    const rows = view.within(op.range)
    if (response.count !== rows.length) {
      return `the range has ${rows.length} keys, and the response counts ${response.count}`
    }
    if (op.countOnly === true) {
      return response.more ? "the response to a count has more: true" : wrongRows("read", [], response.entries)
    }
    const kept = filtered(op, rows)
    if (kept === undefined) return undefined
    const limit = op.limit ?? kept.length
    const more = kept.length > limit
    if (response.more !== more) {
      return `the response has more: ${response.more}, and ${kept.length} entries match, with a limit of ${limit}`
    }
    const wanted = op.keysOnly === true ? kept.map((row) => ({ ...row, value: "", lease: 0n })) : kept
    return wrongOrder(op, wanted, limit, response.entries)
  }
}

/** The rows that pass the revision filters, `undefined` if that is unknown. */
const filtered = (op: Op.Range, rows: ReadonlyArray<ModelRow>): ReadonlyArray<ModelRow> | undefined => {
  const { maxCreateRevision, maxModRevision, minCreateRevision, minModRevision } = op
  const onCreate = minCreateRevision !== undefined || maxCreateRevision !== undefined
  const onMod = minModRevision !== undefined || maxModRevision !== undefined
  const by = op.order?.by
  for (const row of rows) {
    if ((onCreate || by === "createRevision") && row.createRevision === undefined) return undefined
    if ((onMod || by === "modRevision") && row.modRevision === undefined) return undefined
  }
  if (!onCreate && !onMod) return rows
  return rows.filter(({ createRevision = 0n, modRevision = 0n }) =>
    createRevision >= (minCreateRevision ?? createRevision) &&
    createRevision <= (maxCreateRevision ?? createRevision) &&
    modRevision >= (minModRevision ?? modRevision) && modRevision <= (maxModRevision ?? modRevision)
  )
}

/** Entries with an equal sort key have no defined order, and a limit may select any of them. */
const wrongOrder = (
  op: Op.Range,
  wanted: ReadonlyArray<ModelRow>,
  limit: number,
  entries: ReadonlyArray<History.Row>
): string | undefined => {
  const by = op.order?.by ?? "key"
  const sign = op.order?.direction === "descending" ? -1 : 1
  const ordered = wanted.toSorted((a, b) => sign * order(by, a, b))
  const found = entries.map((entry) => wanted.find((row) => row.key === entry.key))
  const ranked = ordered.slice(0, limit).map((expected, i) => {
    const actual = found[i]
    return actual !== undefined && order(by, expected, actual) === 0 ? actual : expected
  })
  const keys = new Set(entries.map((entry) => entry.key))
  if (keys.size !== entries.length) return "an entry is in the response twice"
  return wrongRows("read", ranked, entries)
}

const order = (by: Op.OrderBy, a: ModelRow, b: ModelRow): number => {
  if (by === "key") return KeyRange.compareKeys(a.key, b.key)
  const [x = 0n, y = 0n] = [a[by], b[by]]
  return x < y ? -1 : x > y ? 1 : 0
}
