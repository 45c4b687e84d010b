/**
 * What keeps a server that responds from being the store, for health checks.
 */
import type * as KvError from "@effect-kv/core/KvError"
import * as PgTypes from "@effect/sql-pg/PgTypes"
import * as Effect from "effect/Effect"
import type { Connection, Statement } from "./connection.ts"

/**
 * `READ_ONLY`: the server is a standby, or transactions are read-only by its configuration. `NO_PRIVILEGES`: the role may
 * not use the schema, or not write to its tables.
 */
export const alarms = (to: Connection): Effect.Effect<ReadonlyArray<string>, KvError.KvError> =>
  Effect.suspend(() => to.read(statement(to))).pipe(
    Effect.map((rows) => {
      const [isReadOnly, isPrivileged] = rows[0] as readonly [boolean, boolean]
      return [...isReadOnly ? ["READ_ONLY"] : [], ...isPrivileged ? [] : ["NO_PRIVILEGES"]]
    }),
    // The schema is checked before the first statement of a client.
    Effect.catchIf(({ reason }) => reason._tag === "PermissionDenied", () => Effect.succeed(["NO_PRIVILEGES"]))
  )

const statement = ({ settings: { schema } }: Connection): Statement => ({
  sql: `select current_setting('transaction_read_only') = 'on', not exists (
      select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      where n.nspname = $1 and c.relkind = 'r' and not (has_schema_privilege(n.oid, 'usage')
        and has_table_privilege(c.oid, 'insert') and has_table_privilege(c.oid, 'update')
        and has_table_privilege(c.oid, 'delete')))`,
  params: [PgTypes.text(schema)]
})
