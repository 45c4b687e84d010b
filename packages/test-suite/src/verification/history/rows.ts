/**
 * Entries: compared with those that answers hold, and printed.
 */
import type * as History from "./History.ts"
import { sameValue, showValue } from "./values.ts"

/** An entry; `undefined` stands for a revision that is not known. */
export interface ModelRow extends Omit<History.Row, "createRevision" | "modRevision"> {
  readonly createRevision: bigint | undefined
  readonly modRevision: bigint | undefined
}

/** Whether an entry is the one meant. */
export const sameRow = (expected: ModelRow, actual: ModelRow): boolean =>
  expected.key === actual.key && expected.version === actual.version && expected.lease === actual.lease &&
  sameRevision(expected.createRevision, actual.createRevision) &&
  sameRevision(expected.modRevision, actual.modRevision) &&
  sameValue(expected.value, actual.value)

const sameRevision = (expected: bigint | undefined, actual: bigint | undefined): boolean =>
  expected === undefined || actual === undefined || expected === actual

/** What is wrong with a previous entry. */
export const wrongPrevious = (expected: ModelRow | undefined, actual: History.Row | undefined): string | undefined =>
  expected === undefined && actual === undefined ||
    expected !== undefined && actual !== undefined && sameRow(expected, actual)
    ? undefined
    : `the entry before it was ${showRow(expected)}, and it said ${showRow(actual)}`

/** What is wrong with a list of entries. */
export const wrongRows = (
  what: string,
  expected: ReadonlyArray<ModelRow>,
  actual: ReadonlyArray<History.Row>
): string | undefined => {
  for (let i = 0; i < Math.max(expected.length, actual.length); i++) {
    const [x, y] = [expected[i], actual[i]]
    if (x === undefined || y === undefined || !sameRow(x, y)) {
      return `it ${what} ${showRow(y)}, where ${showRow(x)} was right (${i + 1} of ${expected.length})`
    }
  }
  return undefined
}

export const showRow = (row: ModelRow | undefined): string =>
  row === undefined
    ? "nothing"
    : `${JSON.stringify(row.key)} = ${showValue(row.value)} (version ${row.version}, created ` +
      `${row.createRevision ?? "?"}, modified ${row.modRevision ?? "?"}` +
      `${row.lease === 0n ? "" : `, lease ${row.lease.toString(16)}`})`
