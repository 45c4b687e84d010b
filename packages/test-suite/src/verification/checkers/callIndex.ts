/**
 * An index of calls by their puts and deletes, to find those that could have made a change.
 */
import type { Value } from "@effect-kv/core/Entry"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Op from "@effect-kv/core/Op"
import type * as History from "../history/History.ts"
import { valueKey } from "../history/values.ts"
import type { Step } from "./Timeline.ts"

type Single = Exclude<Op.Op, Op.Txn>

type ByKey = ReadonlyMap<string, ReadonlyArray<History.OpCall>>

export class CallIndex {
  readonly #byPut: ByKey
  readonly #byDelete: ByKey
  /** The calls that delete ranges of several keys, with these ranges. */
  readonly #ofRanges: ReadonlyArray<readonly [call: History.OpCall, ranges: ReadonlyArray<KeyRange.KeyRange>]>

  constructor(putting: ReadonlyArray<History.OpCall>, deleting: ReadonlyArray<History.OpCall>) {
    this.#byPut = byKey(putting, (op) => op._tag === "Put" ? putKey(op.key, op.value) : undefined)
    this.#byDelete = byKey(deleting, (op) => op._tag === "Delete" && op.range._tag === "Key" ? op.range.key : undefined)
    this.#ofRanges = deleting.map((call) => [call, rangesOf(call)] as const).filter(([, ranges]) => ranges.length > 0)
  }

  /** The calls that would make the change in one of their branches, without duplicates. */
  of({ after, key }: Step): ReadonlyArray<History.OpCall> {
    if (after !== undefined) return this.#byPut.get(putKey(key, after.value)) ?? []
    const calls = new Set(this.#byDelete.get(key))
    for (const [call, ranges] of this.#ofRanges) {
      if (ranges.some((range) => KeyRange.contains(range, key))) calls.add(call)
    }
    return [...calls]
  }
}

/** A key that is equal for puts of one value to one key. */
export const putKey = (key: string, value: Value): string => `${JSON.stringify(key)}${valueKey(value)}`

/** The ranges, other than single keys, that a call deletes in one of its branches. */
export const rangesOf = (call: History.OpCall): ReadonlyArray<KeyRange.KeyRange> =>
  singles(call.request.op).flatMap((op) => op._tag === "Delete" && op.range._tag !== "Key" ? [op.range] : [])

const singles = (op: Op.Op): ReadonlyArray<Single> =>
  op._tag === "Txn" ? [...op.then, ...op.else].flatMap(singles) : [op]

const byKey = (calls: ReadonlyArray<History.OpCall>, keyOf: (op: Single) => string | undefined): ByKey => {
  const index = new Map<string, Array<History.OpCall>>()
  for (const call of calls) {
    for (const op of singles(call.request.op)) {
      const key = keyOf(op)
      if (key === undefined) continue
      const sharing = index.get(key)
      if (sharing === undefined) index.set(key, [call])
      else if (sharing.at(-1) !== call) sharing.push(call)
    }
  }
  return index
}
