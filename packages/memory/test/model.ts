/**
 * A model of the store: a full copy of every revision, and a list of changes. Slow, and obviously correct.
 */
import * as Check from "@effect-kv/core/Check"
import type * as Compare from "@effect-kv/core/Compare"
import type * as Entry from "@effect-kv/core/Entry"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Op from "@effect-kv/core/Op"
import * as Option from "effect/Option"
import * as Buffer from "node:buffer"

/** An entry in a form that can be compared. */
export interface Row {
  readonly key: string
  readonly value: string
  readonly create: bigint
  readonly mod: bigint
  readonly version: number
}

export interface Change {
  readonly revision: bigint
  readonly key: string
  /** Without it the key was deleted. */
  readonly row: Row | undefined
  readonly previous: Row | undefined
}

type Snapshot = Map<string, Row>

export const hex = (value: Entry.Value): string => Buffer.Buffer.from(value as string).toString("hex")

const bytes = (text: string) => Buffer.Buffer.from(text, "utf8")

export class Model {
  revision = 1n
  compacted = 0n
  changes: Array<Change> = []
  readonly #snapshots = new Map<bigint, Snapshot>([[1n, new Map()]])

  /** The response in a form that can be compared, or the reason it fails for. */
  execute(op: Op.Op): unknown {
    if (Check.op(op, { maxTxnOps: 128 }) !== undefined) return "InvalidRequest"
    const rejected = this.#rejection(this.#taken(op, this.#now()), this.revision)
    if (rejected !== undefined) return rejected
    const next: Snapshot = new Map(this.#now())
    const before = this.changes.length
    const paths = this.#path(op, this.#now())
    const response = this.#run(op, next, paths)
    if (this.changes.length > before) {
      this.revision++
      this.#snapshots.set(this.revision, next)
    }
    return this.#stamp(response)
  }

  compact(revision: bigint): string | undefined {
    if (revision > this.revision) return "FutureRevision"
    if (revision <= this.compacted) return "Compacted"
    this.compacted = revision
    return undefined
  }

  /** The changes that a watch of the range delivers from a revision on. */
  watch(range: KeyRange.KeyRange, start: bigint): ReadonlyArray<Change> {
    return this.changes
      .filter((change) => change.revision >= start && KeyRange.contains(range, change.key))
      .map((change) => change.revision > this.compacted ? change : { ...change, previous: undefined })
  }

  #now(): Snapshot {
    return this.#snapshots.get(this.revision)!
  }

  /** Which branch each transaction takes, in order, all seeing the store before the first write. */
  #path(op: Op.Op, snapshot: Snapshot): Array<boolean> {
    if (op._tag !== "Txn") return []
    const succeeded = op.if.every((compare) => holds(snapshot, compare))
    return [succeeded, ...(succeeded ? op.then : op.else).flatMap((op) => this.#path(op, snapshot))]
  }

  #taken(op: Op.Op, snapshot: Snapshot): Array<Op.Op> {
    if (op._tag !== "Txn") return [op]
    const branch = this.#path(op, snapshot)[0] === true ? op.then : op.else
    return branch.flatMap((op) => this.#taken(op, snapshot))
  }

  #rejection(ops: ReadonlyArray<Op.Op>, revision: bigint): string | undefined {
    for (const op of ops) {
      if (op._tag !== "Range" || op.revision === undefined) continue
      if (op.revision > revision) return "FutureRevision"
      if (op.revision < this.compacted) return "Compacted"
    }
    return undefined
  }

  #run(op: Op.Op, next: Snapshot, path: Array<boolean>): unknown {
    switch (op._tag) {
      case "Range":
        return range(op, op.revision === undefined ? next : this.#snapshots.get(op.revision)!)
      case "Put": {
        const previous = next.get(op.key)
        const mod = this.revision + 1n
        this.#change(next, op.key, {
          key: op.key,
          value: hex(op.value),
          create: previous?.create ?? mod,
          mod,
          version: (previous?.version ?? 0) + 1
        })
        return { previous: op.previous === true ? previous : undefined }
      }
      case "Delete": {
        const deleted = rows(next, op.range)
        for (const row of deleted) this.#change(next, row.key, undefined)
        return { deleted: deleted.length, previous: op.previous === true ? deleted : [] }
      }
      case "Txn": {
        const succeeded = path.shift()!
        return { succeeded, responses: (succeeded ? op.then : op.else).map((op) => this.#run(op, next, path)) }
      }
    }
  }

  #change(next: Snapshot, key: string, row: Row | undefined): void {
    this.changes.push({ revision: this.revision + 1n, key, row, previous: this.#now().get(key) })
    if (row === undefined) next.delete(key)
    else next.set(key, row)
  }

  /** Adds the revision after the operation to every response. */
  #stamp(response: unknown): unknown {
    const { responses, ...rest } = response as { readonly responses?: ReadonlyArray<unknown> }
    return {
      revision: this.revision,
      ...rest,
      ...(responses === undefined ? {} : { responses: responses.map((response) => this.#stamp(response)) })
    }
  }
}

const rows = (snapshot: Snapshot, range: KeyRange.KeyRange): Array<Row> =>
  Array.from(snapshot.values())
    .filter((row) => KeyRange.contains(range, row.key))
    .sort((a, b) => bytes(a.key).compare(bytes(b.key)))

const range = (op: Op.Range, snapshot: Snapshot): unknown => {
  const found = rows(snapshot, op.range)
  if (op.countOnly === true) return { entries: [], count: found.length, more: false }
  const field = { key: "key", createRevision: "create", modRevision: "mod", version: "version" }[op.order?.by ?? "key"]
  const direction = op.order?.direction === "descending" ? -1 : 1
  const kept = found
    .filter((row) =>
      row.mod >= (op.minModRevision ?? 0n) && row.mod <= (op.maxModRevision ?? row.mod) &&
      row.create >= (op.minCreateRevision ?? 0n) && row.create <= (op.maxCreateRevision ?? row.create)
    )
    .map((row, index) => ({ row, rank: field === "key" ? index : Number(row[field as "create" | "mod" | "version"]) }))
    .sort((a, b) => direction * (a.rank - b.rank))
    .map(({ row }) => op.keysOnly === true ? { ...row, value: "" } : row)
  const limit = op.limit ?? kept.length
  return { entries: kept.slice(0, limit), count: found.length, more: kept.length > limit }
}

const holds = (snapshot: Snapshot, compare: Compare.Compare): boolean => {
  if (compare.target !== "CreatedBefore") return holdsOf(snapshot.get(compare.key), compare)
  return Array.from(snapshot.values())
    .every((row) => !KeyRange.contains(compare.range, row.key) || row.create < compare.revision)
}

const holdsOf = (row: Row | undefined, compare: Compare.OfKey): boolean => {
  if (compare.target === "Value") {
    return row !== undefined &&
      fulfils(Buffer.Buffer.from(row.value, "hex").compare(bytes(compare.value as string)), compare)
  }
  const actual = { Version: row?.version, CreateRevision: row?.create, ModRevision: row?.mod, Lease: 0 }[compare.target]
  return fulfils(Number(actual ?? 0) - Number(compare.value), compare)
}

const fulfils = (order: number, { operator }: Compare.OfKey): boolean =>
  operator === "=" ? order === 0 : operator === "!=" ? order !== 0 : operator === "<" ? order < 0 : order > 0

/** An entry in a form that can be compared. */
export const toRow = (entry: Entry.Entry): Row => ({
  key: entry.key,
  value: hex(entry.value),
  create: entry.createRevision,
  mod: entry.modRevision,
  version: entry.version
})

/** A response in a form that can be compared. */
export const toComparable = (response: Op.Response): unknown => {
  const { revision } = response
  switch (response._tag) {
    case "Range":
      return { revision, entries: response.entries.map(toRow), count: response.count, more: response.more }
    case "Put":
      return { revision, previous: Option.getOrUndefined(Option.map(response.previous, toRow)) }
    case "Delete":
      return { revision, deleted: response.deleted, previous: response.previous.map(toRow) }
    case "Txn":
      return { revision, succeeded: response.succeeded, responses: response.responses.map(toComparable) }
  }
}
