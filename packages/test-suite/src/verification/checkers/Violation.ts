/**
 * Violations that checkers find in a history.
 */
import type * as History from "../history/History.ts"
import { showRecord } from "../history/show.ts"

/**
 * Evidence that a store or a client broke the contract.
 *
 * @since 0.1.0
 */
export interface Violation<out Kind extends string = string> {
  /** The kind of the violation. */
  readonly kind: Kind
  /** A description with the operations and values. */
  readonly message: string
  /** The ids of the records involved. */
  readonly records: ReadonlyArray<number>
  /** The revision involved, if any. */
  readonly revision?: bigint
}

/**
 * Violations as text, each followed by its records.
 *
 * @example
 * ```ts
 * import { History, Violation } from "@effect-kv/test-suite/verification"
 *
 * const violation = { kind: "Missing", message: "revision 7 was not delivered", records: [] }
 * Violation.print(History.empty, [violation]) // => "Missing: revision 7 was not delivered"
 * ```
 *
 * @since 0.1.0
 */
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
