/**
 * Statements, and the rows that they return.
 */

/** A row, by the position of its columns. */
export type Row = ReadonlyArray<unknown>

/** A statement with its parameters. */
export interface Statement {
  readonly sql: string
  readonly params: ReadonlyArray<unknown>
  /** The statement after which this one, if it is a write, is not applied any more. */
  readonly declareVoid?: Statement
}
