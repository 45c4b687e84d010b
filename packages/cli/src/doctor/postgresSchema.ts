/**
 * What is to be said of the schema of a store in Postgres: whether it exists, may be created, used and upgraded by the
 * role, and has a version that this program can use.
 */
import * as PostgresSchema from "@effect-kv/postgres/PostgresSchema"
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { SqlError } from "effect/sql/SqlError"
import { type Finding, ok, problem, warning } from "./finding.ts"

/** The schema unless the settings name one. */
export const defaultSchema = "effect_kv"

/** What the catalog says. Every role may read it. */
interface Catalog {
  readonly role: string
  readonly database: string
  readonly is_standby: boolean
  readonly exists: boolean
  readonly has_store: boolean
  /** An object in the schema, if there is any. */
  readonly object: string | null
  /** The schemas of the database that hold a store. */
  readonly stores: ReadonlyArray<string>
  readonly may_create_schema: boolean
  readonly may_create: boolean
  readonly may_use: boolean
  /** Whether the role owns all functions, so that it can replace them. */
  readonly may_upgrade: boolean
  /** Whether the role may read and write all tables. */
  readonly may_write: boolean
  readonly may_execute: boolean
}

/** What is known of a schema. */
export interface Facts extends Catalog {
  readonly schema: string
  /** The version of the schema, and that of the oldest clients it supports; `undefined` if they cannot be read. */
  readonly version: number | undefined
  readonly oldestClient: number | undefined
}

const catalog = (sql: PgClient.PgClient, schema: string): Effect.Effect<Catalog, SqlError> =>
  Effect.map(
    sql<Catalog>`
      with store as (
        select n.nspname from pg_catalog.pg_namespace n
        where exists (select from pg_catalog.pg_class c where c.relnamespace = n.oid and c.relname = 'store')
          and exists (
            select from pg_catalog.pg_proc p where p.pronamespace = n.oid and p.proname = 'schema_version'
              and p.pronargs = 0 and p.prorettype = 'integer'::regtype
          )
      )
      select current_user::text as role, current_database()::text as database, pg_is_in_recovery() as is_standby,
        n.oid is not null as exists,
        exists (select from store s where s.nspname = ${schema}) as has_store,
        coalesce(
          (select c.relname::text from pg_catalog.pg_class c where c.relnamespace = n.oid limit 1),
          (select p.proname::text from pg_catalog.pg_proc p where p.pronamespace = n.oid limit 1)
        ) as object,
        array(select s.nspname::text from store s order by s.nspname) as stores,
        has_database_privilege(current_database(), 'create') as may_create_schema,
        coalesce(has_schema_privilege(n.oid, 'create'), false) as may_create,
        coalesce(has_schema_privilege(n.oid, 'usage'), false) as may_use,
        not exists (
          select from pg_catalog.pg_proc p where p.pronamespace = n.oid and not pg_has_role(p.proowner, 'usage')
        ) as may_upgrade,
        not exists (
          select from pg_catalog.pg_class c, unnest(array['select', 'insert', 'update', 'delete']) p
          where c.relnamespace = n.oid and c.relkind = 'r' and not has_table_privilege(c.oid, p)
        ) as may_write,
        not exists (
          select from pg_catalog.pg_proc p where p.pronamespace = n.oid and not has_function_privilege(p.oid, 'execute')
        ) as may_execute
      from (values (1)) one left join pg_catalog.pg_namespace n on n.nspname = ${schema}`,
    (rows) => rows[0]!
  )

/** Reads what is known of the schema. */
export const facts = Effect.fnUntraced(function*(
  sql: PgClient.PgClient,
  schema: string
): Effect.fn.Return<Facts, SqlError> {
  const found = yield* catalog(sql, schema)
  const integer = (name: string) =>
    found.has_store && found.may_use
      ? Effect.option(sql.unsafe<{ readonly value: number }>(`select ${identifier(schema)}.${name}() as value`))
      : Effect.succeed(Option.none())
  const valueOf = (rows: Option.Option<ReadonlyArray<{ readonly value: number }>>) =>
    Option.getOrUndefined(rows)?.[0]?.value
  return {
    ...found,
    schema,
    version: valueOf(yield* integer("schema_version")),
    oldestClient: valueOf(yield* integer("oldest_client"))
  }
})

/** What is to be said of the schema. */
export const finding = (facts: Facts): Finding => {
  const { has_store, may_execute, may_use, may_write, object, oldestClient, version } = facts
  const name = JSON.stringify(facts.schema)
  if (!has_store) {
    return object === null ? missing(facts) : problem(
      "foreign-schema",
      `the schema ${name} belongs to another program: it holds ${JSON.stringify(object)} and no store`,
      `Name another one with --schema (KV_SCHEMA).${storesOf(facts)}`
    )
  }
  if (!may_use || !may_write || !may_execute) return denied(facts)
  if (version !== undefined && version < PostgresSchema.version) return old(facts, version)
  if (version !== undefined && oldestClient !== undefined && oldestClient > PostgresSchema.version) {
    return problem(
      "new-schema",
      `the schema ${name} has version ${version}, which this program is too old for: it knows version ` +
        `${PostgresSchema.version}`,
      "Update effect-kv to the version of your programs."
    )
  }
  return ok("schema", `the schema ${name} has version ${version}`)
}

const missing = (facts: Facts): Finding => {
  const { database, exists, may_create, may_create_schema, may_use, role } = facts
  const name = JSON.stringify(facts.schema)
  const what = exists
    ? `the schema ${name} has no store`
    : `the database ${JSON.stringify(database)} has no schema ${name}`
  if (facts.is_standby) {
    return problem(
      "no-schema",
      `${what}, and the server is a standby, which takes no writes`,
      "Name the primary in the URL."
    )
  }
  const another = `If your programs use another schema, name it with --schema (KV_SCHEMA).${storesOf(facts)}`
  return (exists ? may_create && may_use : may_create_schema)
    ? warning(
      "no-schema",
      `${what}: no program has used this store yet`,
      `${another} The first program creates it, as do the commands that write: lock, elect, semaphore, once, put, txn.`
    )
    : problem(
      "no-schema",
      `${what}, and the role ${JSON.stringify(role)} may not create it`,
      `${another} Otherwise: grant ${
        exists ? `usage, create on schema ${identifier(facts.schema)}` : `create on database ${identifier(database)}`
      } to ${identifier(role)}; or run the text of ${scriptOf(facts)} as a role that may.`
    )
}

const denied = ({ may_execute, may_use, may_write, role, schema }: Facts): Finding => {
  const name = identifier(schema)
  const grants = [
    ...may_use ? [] : [`usage on schema ${name}`],
    ...may_write ? [] : [`select, insert, update, delete on all tables in schema ${name}`],
    ...may_execute ? [] : [`execute on all functions in schema ${name}`]
  ]
  return problem(
    "permission-denied",
    `the role ${JSON.stringify(role)} lacks: ${grants.join("; ")}`,
    `As the owner of the schema: ${grants.map((grant) => `grant ${grant} to ${identifier(role)};`).join(" ")}`
  )
}

const old = (facts: Facts, version: number): Finding => {
  const what = `the schema ${JSON.stringify(facts.schema)} has version ${version}; this program needs version ` +
    `${PostgresSchema.version}`
  return facts.may_upgrade
    ? warning(
      "old-schema",
      what,
      "Programs of the version before work, and so does their effect-kv. The first program of this version upgrades the " +
        "schema, as do the commands that write: lock, elect, semaphore, once, put, txn."
    )
    : problem(
      "old-schema",
      `${what}, and the role ${JSON.stringify(facts.role)} may not upgrade it`,
      `Run the text of ${scriptOf(facts)} as the owner of the schema, or use the effect-kv of the version before.`
    )
}

const storesOf = ({ stores }: Facts): string =>
  stores.length === 0
    ? " No schema of this database holds a store."
    : ` There are stores in: ${stores.map((name) => JSON.stringify(name)).join(", ")}.`

const scriptOf = ({ schema }: Facts): string => `PostgresSchema.script(${JSON.stringify(schema)})`

const identifier = (name: string): string => `"${name.replaceAll("\"", "\"\"")}"`
