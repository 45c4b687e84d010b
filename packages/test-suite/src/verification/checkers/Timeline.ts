/**
 * A timeline of the store: its state at every revision, from its changes.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type { Change, Extent } from "../history/Changes.ts"
import type * as History from "../history/History.ts"
import * as plain from "../history/plain.ts"
import type { View } from "./StoreView.ts"

/** A change with the entries before and after it, if they exist. */
export interface Step {
  readonly key: string
  readonly revision: bigint
  readonly before: History.Row | undefined
  readonly after: History.Row | undefined
}

interface Chain {
  readonly revisions: Array<bigint>
  readonly rows: Array<History.Row | undefined>
}

export class Timeline {
  /** The revision before the first change. */
  readonly first: bigint
  readonly last: bigint
  /** Contradictions among the changes themselves. */
  readonly problems: ReadonlyArray<string>
  readonly #steps: ReadonlyArray<ReadonlyArray<Step>>
  readonly #chains = new Map<string, Chain>()
  readonly #keys: ReadonlyArray<string>

  constructor(changes: ReadonlyArray<Change>, extent?: Extent) {
    const problems: Array<string> = []
    const steps: Array<Array<Step>> = []
    this.first = extent?.from ?? (changes[0]?.modRevision ?? 2n) - 1n
    let last = this.first
    const advance = (to: bigint) => {
      for (; last < to; last++) steps.push([])
    }
    for (const change of changes) {
      const { modRevision } = change
      const isGap = extent === undefined && modRevision > last + 1n
      if (modRevision < last || isGap || modRevision > (extent?.upTo ?? modRevision)) {
        problems.push(`revision ${modRevision} comes after ${last}: changes are missing or out of order`)
        // Changes after a gap can still be checked.
        if (!isGap) continue
      }
      advance(modRevision)
      const step = this.#add(change)
      const problem = inconsistency(step, change)
      if (problem !== undefined) problems.push(`revision ${modRevision}: ${problem}`)
      steps.at(-1)?.push(step)
    }
    advance(extent?.upTo ?? last)
    this.last = last
    this.problems = problems
    this.#steps = steps
    this.#keys = Array.from(this.#chains.keys()).sort(KeyRange.compareKeys)
  }

  #add(change: Change): Step {
    const chain = this.#chains.get(change.key) ?? { revisions: [], rows: [] }
    this.#chains.set(change.key, chain)
    const before = chain.rows.at(-1)
    const after = change.type === "delete" ? undefined : {
      key: change.key,
      value: plain.value(change.valueBytes),
      createRevision: change.createRevision,
      modRevision: change.modRevision,
      version: Number(change.version),
      lease: change.lease
    }
    chain.revisions.push(change.modRevision)
    chain.rows.push(after)
    return { key: change.key, revision: change.modRevision, before, after }
  }

  /** The changes of a revision in order; none if there is no such revision. */
  stepsAt(revision: bigint): ReadonlyArray<Step> {
    return this.#steps[Number(revision - this.first) - 1] ?? []
  }

  /** All changes after a revision, in order. */
  *stepsAfter(revision: bigint): Generator<Step> {
    for (let i = Math.max(0, Number(revision - this.first)); i < this.#steps.length; i++) yield* this.#steps[i]!
  }

  /** The revisions at which a key changed, after one revision and up to another, in order. */
  revisionsOf(key: string, after: bigint, upTo: bigint): ReadonlyArray<bigint> {
    const { revisions } = this.#chains.get(key) ?? { revisions: [] }
    return revisions.slice(countUpTo(revisions, after), countUpTo(revisions, upTo))
  }

  has(revision: bigint): boolean {
    return revision >= this.first && revision <= this.last
  }

  /** The store at a revision. */
  at(revision: bigint): View {
    return {
      get: (key) => this.#get(key, revision),
      within: (range) => this.#within(range, revision)
    }
  }

  #get(key: string, revision: bigint): History.Row | undefined {
    const chain = this.#chains.get(key)
    if (chain === undefined) return undefined
    return chain.rows[countUpTo(chain.revisions, revision) - 1]
  }

  #within(range: KeyRange.KeyRange, revision: bigint): ReadonlyArray<History.Row> {
    if (range._tag === "Key") {
      const row = this.#get(range.key, revision)
      return row === undefined ? [] : [row]
    }
    const rows: Array<History.Row> = []
    for (let i = this.#firstFrom(range._tag === "HalfOpen" ? range.start : range.from); i < this.#keys.length; i++) {
      const key = this.#keys[i]!
      if (!KeyRange.contains(range, key)) break
      const row = this.#get(key, revision)
      if (row !== undefined) rows.push(row)
    }
    return rows
  }

  #firstFrom(start: string): number {
    let low = 0
    let high = this.#keys.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (KeyRange.compareKeys(this.#keys[middle]!, start) < 0) low = middle + 1
      else high = middle
    }
    return low
  }
}

/** How many of the ascending revisions are at most the given one. */
const countUpTo = (revisions: ReadonlyArray<bigint>, revision: bigint): number => {
  let low = 0
  let high = revisions.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (revisions[middle]! <= revision) low = middle + 1
    else high = middle
  }
  return low
}

/** The problem with a change after the changes before it, if any. */
const inconsistency = ({ after, before, key, revision }: Step, change: Change): string | undefined => {
  const name = JSON.stringify(key)
  if (before?.modRevision === revision) return `${name} is changed twice`
  if (after === undefined) return before === undefined ? `${name} is deleted, and did not exist` : undefined
  const created = before?.createRevision ?? revision
  const version = (before?.version ?? 0) + 1
  if (after.createRevision !== created) return `${name} has create revision ${after.createRevision}, not ${created}`
  return after.version === version ? undefined : `${name} is at version ${change.version}, not ${version}`
}
