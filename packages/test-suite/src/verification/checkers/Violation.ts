/**
 * What a checker found wrong with a history.
 */
import type * as History from "../history/History.ts"
import { showRecord } from "../history/show.ts"

/** Something that a correct store and client cannot have done. */
export interface Violation<out Kind extends string = string> {
  readonly kind: Kind
  /** In words, with the operations and values it is about. */
  readonly message: string
  /** The ids of the records it is about. */
  readonly records: ReadonlyArray<number>
  /** The revision it is about, where there is one. */
  readonly revision?: bigint
}

/** Violations as text, each followed by the records it is about. */
export const print = (history: History.History, violations: ReadonlyArray<Violation>): string => {
  const records = new Map<number, History.Record>()
  for (const all of [history.calls, history.watches, history.holdings, history.effects]) {
    for (const record of all) records.set(record.id, record)
  }
  return violations.map(({ kind, message, records: ids }) =>
    [
      `${kind}: ${message}`,
      ...ids.map((id) => records.get(id)).filter((record) => record !== undefined).map((record) =>
        `    ${showRecord(record)}`
      )
    ].join("\n")
  ).join("\n\n")
}
