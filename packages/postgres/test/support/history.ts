/**
 * The store's own history, read by SQL that shares no code with the package.
 */
import type { Changes } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"

interface Row {
  readonly key: string
  readonly value: Uint8Array
  readonly revision: bigint
  readonly create_revision: bigint
  readonly version: bigint
  readonly lease: bigint
}

/** All changes up to a revision, in order. */
export const changesUpTo = Effect.fnUntraced(function*(revision: bigint) {
  const sql = yield* PgClient.PgClient
  const rows = yield* sql<Row>`
    select convert_from(key, 'UTF8') as key, value, revision, create_revision, version, lease
    from effect_kv.log where revision <= ${revision} order by revision, sub`
  return rows.map((row): Changes.Change => ({
    type: row.version === 0n ? "delete" : "put",
    key: row.key,
    valueBytes: row.value,
    modRevision: row.revision,
    createRevision: row.create_revision,
    version: row.version,
    lease: row.lease
  }))
})
