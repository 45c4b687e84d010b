/**
 * Rows of the model: comparison with entries of responses, and printing.
 */
import type * as History from "./History.ts"
import { sameValue, showValue } from "./values.ts"

/** An entry of the model. An unknown revision is `undefined`. */
export interface ModelRow extends Omit<History.Row, "createRevision" | "modRevision"> {
  readonly createRevision: bigint | undefined
  readonly modRevision: bigint | undefined
}

/** Whether an entry equals a row of the model, unknown revisions aside. */
export const sameRow = (expected: ModelRow, actual: ModelRow): boolean =>
  expected.key === actual.key && expected.version === actual.version && expected.lease === actual.lease &&
  sameRevision(expected.createRevision, actual.createRevision) &&
  sameRevision(expected.modRevision, actual.modRevision) &&
  sameValue(expected.value, actual.value)

const sameRevision = (expected: bigint | undefined, actual: bigint | undefined): boolean =>
  expected === undefined || actual === undefined || expected === actual

/** The problem with a previous entry, `undefined` for none. */
export const wrongPrevious = (expected: ModelRow | undefined, actual: History.Row | undefined): string | undefined =>
  expected === undefined && actual === undefined ||
    expected !== undefined && actual !== undefined && sameRow(expected, actual)
    ? undefined
    : `the previous entry was ${showRow(expected)}, and the response has ${showRow(actual)}`

/** The problem with a list of entries, `undefined` for none. */
export const wrongRows = (
  what: string,
  expected: ReadonlyArray<ModelRow>,
  actual: ReadonlyArray<History.Row>
): string | undefined => {
  for (let i = 0; i < Math.max(expected.length, actual.length); i++) {
    const [x, y] = [expected[i], actual[i]]
    if (x === undefined || y === undefined || !sameRow(x, y)) {
      return `it ${what} ${showRow(y)} instead of ${showRow(x)} (${i + 1} of ${expected.length})`
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
