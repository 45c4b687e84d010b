/**
 * Statements and their rows.
 */

/** A row, by the position of its columns. */
export type Row = ReadonlyArray<unknown>

/** A statement with its parameters. */
export interface Statement {
  readonly sql: string
  readonly params: ReadonlyArray<unknown>
}
