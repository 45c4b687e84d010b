/**
 * What keeps a server that responds from being the store, for health checks.
 */
import type * as KvError from "@effect-kv/core/KvError"
import * as PgTypes from "@effect/sql-pg/PgTypes"
import * as Effect from "effect/Effect"
import type { Connection } from "./connection.ts"
import type { Statement } from "./statement.ts"

/**
 * `READ_ONLY`: the server is a standby, or transactions are read-only by its configuration. `NO_PRIVILEGES`: the role may
 * not use the schema, not write to its tables, or not create it.
 */
export const alarms = (to: Connection): Effect.Effect<ReadonlyArray<string>, KvError.KvError> =>
  Effect.suspend(() => to.readCatalog(statement(to))).pipe(
    Effect.flatMap((rows) => {
      const [isReadOnly, isPrivileged] = rows[0] as readonly [boolean, boolean]
      // A server that only reads creates no schema, however long it is given.
      const usable = isReadOnly || !isPrivileged ? Effect.succeed(isPrivileged) : mayUseSchema(to)
      return Effect.map(
        usable,
        (mayUse) => [...isReadOnly ? ["READ_ONLY"] : [], ...mayUse ? [] : ["NO_PRIVILEGES"]]
      )
    })
  )

/** Whether the role may use the schema as the check before a client's first statement leaves it: created, or upgraded. */
const mayUseSchema = (to: Connection): Effect.Effect<boolean> =>
  Effect.match(to.schemaReady, {
    onFailure: ({ reason }) => reason._tag !== "PermissionDenied",
    onSuccess: () => true
  })

const statement = ({ settings: { schema } }: Connection): Statement => ({
  sql: `select current_setting('transaction_read_only') = 'on', not exists (
      select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      where n.nspname = $1 and c.relkind = 'r' and not (has_schema_privilege(n.oid, 'usage')
        and has_table_privilege(c.oid, 'insert') and has_table_privilege(c.oid, 'update')
        and has_table_privilege(c.oid, 'delete')))`,
  params: [PgTypes.text(schema)]
})
