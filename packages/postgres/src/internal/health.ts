/**
 * What keeps a server that responds from being the store, for health checks.
 */
import type * as KvError from "@effect-kv/core/KvError"
import * as PgTypes from "@effect/sql-pg/PgTypes"
import * as Effect from "effect/Effect"
import type { Connection, Statement } from "./connection.ts"

/**
 * `READ_ONLY`: the server is a standby, or transactions are read-only by its configuration. `NO_PRIVILEGES`: the role may
 * not use the schema, or may not create it.
 */
export const alarms = (to: Connection): Effect.Effect<ReadonlyArray<string>, KvError.KvError> =>
  Effect.suspend(() =>
    Effect.map(to.read(statement(to)), (rows) => {
      const [isReadOnly, isPrivileged] = rows[0] as readonly [boolean, boolean]
      return [...isReadOnly ? ["READ_ONLY"] : [], ...isPrivileged ? [] : ["NO_PRIVILEGES"]]
    })
  )

/** By oids: a name in a schema that the role may not use would be an error. */
const statement = ({ settings: { migrate, schema } }: Connection): Statement => ({
  sql: `select current_setting('transaction_read_only') = 'on', coalesce(
      (select has_schema_privilege(n.oid, 'usage') and coalesce(
          (select has_table_privilege(c.oid, 'insert') and has_table_privilege(c.oid, 'update')
              and has_table_privilege(c.oid, 'delete')
            from pg_catalog.pg_class c where c.relnamespace = n.oid and c.relname = 'entry'), true)
        from pg_catalog.pg_namespace n where n.nspname = $1),
      ${migrate ? "has_database_privilege(current_database(), 'create')" : "true"})`,
  params: [PgTypes.text(schema)]
})
