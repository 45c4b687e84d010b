/**
 * The creation of the schema, by the first statement of a layer.
 */
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { Settings } from "./options.ts"
import { identifier, script } from "./schema/script.ts"
import { isSchemaMissing } from "./sqlErrors.ts"

/** Creates the schema unless it exists. Of several clients that create it at once, one does and the others wait. */
export const ensure = (pg: PgClient.PgClient, settings: Settings): Effect.Effect<void, SqlError> => {
  const version = Effect.scoped(Effect.flatMap(pg.reserve, (connection) =>
    connection.executeValuesUnprepared(`select ${identifier(settings.schema)}.schema_version()`, [])))
  return Effect.asVoid(
    settings.migrate ? Effect.catchIf(version, isSchemaMissing, () => create(pg, settings.schema)) : version
  )
}

/** The script is the body of a block, which is one statement and so one transaction. */
const create = (pg: PgClient.PgClient, schema: string): Effect.Effect<void, SqlError> =>
  Effect.scoped(Effect.flatMap(pg.reserve, (connection) =>
    Effect.asVoid(
      connection.executeUnprepared(
        `do $do$ begin
           perform pg_advisory_xact_lock(hashtextextended('effect-kv schema', 0));
           ${script(schema)}
         end $do$`,
        [],
        undefined
      )
    )))
