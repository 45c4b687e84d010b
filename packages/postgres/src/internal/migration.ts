/**
 * The creation of the schema, by the first statement that does not find it.
 */
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import { script } from "./schema/script.ts"

/**
 * Creates the schema. Of several clients that create it at once, one does and the others wait.
 *
 * The script is the body of a block, which is one statement and so one transaction.
 */
export const create = (pg: PgClient.PgClient, schema: string): Effect.Effect<void, SqlError> =>
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
