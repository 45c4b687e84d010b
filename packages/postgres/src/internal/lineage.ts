/**
 * The question whether the history of the store holds two positions.
 */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import type { Lineage, Position } from "./identity.ts"
import type { Row, Statement } from "./statement.ts"

export const statement = (schema: string, known: Position, seen: Position): Statement => ({
  sql: `select s.epoch, s.revision, ${schema}.holds_revision($1, $2), ${schema}.holds_revision($3, $4)
    from ${schema}.store s where ${schema}.primary_only()`,
  params: [known.epoch, known.revision, seen.epoch, seen.revision].map(PgTypes.int8)
})

export const decode = (rows: ReadonlyArray<Row>): Lineage => {
  const [epoch, revision, holdsKnown, holdsSeen] = rows[0] as readonly [bigint, bigint, boolean, boolean]
  return { now: { epoch, revision }, holdsKnown, holdsSeen }
}
