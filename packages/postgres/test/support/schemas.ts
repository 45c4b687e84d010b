/**
 * The schemas of released versions: `schemas/N.sql` is the text that version N had, for the schema `effect_kv`.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"

const folder = new URL("../schemas/", import.meta.url)

const text = (version: number): string => Fs.readFileSync(new URL(`${version}.sql`, folder), "utf8")

/** The released versions, in order. */
export const released: ReadonlyArray<{ readonly version: number; readonly text: string }> = Fs.readdirSync(folder)
  .map((file) => Number(/^(\d+)\.sql$/.exec(file)?.[1]))
  .toSorted((a, b) => a - b)
  .map((version) => ({ version, text: text(version) }))

/** Creates the schema that version 1 created. Its name must need no quotes. */
export const createVersion1 = (schema: string) =>
  Effect.flatMap(PgClient.PgClient, (sql) =>
    // Version 1 had a list of statements, which its layer executed as the body of a block.
    sql.unsafe(`do $do$ begin ${text(1).replaceAll("effect_kv", schema)} end $do$`))

/**
 * What the clients of version 1 send, with parameters in place. Each returns at least one row.
 */
export const statementsOfVersion1 = (schema: string): ReadonlyArray<string> => {
  const put = (value: string) => `write('{"t":"p","k":1,"v":2}', array['a', '${value}']::bytea[], gen_random_uuid())`
  const get = `read('{"t":"t","if":[{"c":"v","k":1,"o":"=","v":2}],"then":[{"t":"r","k":1,"e":3}],"else":[]}',
    array['a', '1', 'b']::bytea[])`
  return [
    `select * from ${schema}.${put("1")}`,
    `select * from ${schema}.${get}`,
    `select * from ${schema}.get_entry('a')`,
    `select * from ${schema}.write('{"t":"d","k":1,"e":2,"pv":1}', array['a', 'b']::bytea[], gen_random_uuid())`,
    `select * from ${schema}.changes(null, true, '', 'z', null::smallint, true, 1024, 4194304)`,
    `select * from ${schema}.changes(2, false, 'a', 'b', null::smallint, true, 1024, 4194304)`,
    `select * from ${schema}.resolve(gen_random_uuid(), 1)`,
    `select * from ${schema}.grant_lease(null, 2)`,
    `select * from ${schema}.grant_lease(77, 60)`,
    `select * from ${schema}.write('{"t":"p","k":1,"v":2,"lease":"77","leases":1}', array['l', '']::bytea[],
      gen_random_uuid())`,
    `update ${schema}.lease set expires_at = clock_timestamp() + ttl * interval '1 second'
      where id = 77 and expires_at > clock_timestamp() returning ttl`,
    `select ttl, floor(extract(epoch from expires_at - clock_timestamp()))::bigint from ${schema}.lease
      where id = 77 and expires_at > clock_timestamp()`,
    `select key from ${schema}.entry where lease = 77 and lease <> 0 order by key`,
    `select ${schema}.fenced('[{"c":"l","k":1,"o":"=","n":"77"}]', array['l']::bytea[], 5000)`,
    `select ${schema}.revoke_lease(77)`,
    `select ${schema}.sweep()`,
    `select * from ${schema}.compact(3)`,
    `select ${schema}.rotate()`,
    `select ${schema}.clean(10000)`,
    `select revision, compacted, cleanable, cleaned, (select count(*) from ${schema}.lease) from ${schema}.store`
  ]
}

/** The tables, indexes and functions of a schema, as text. */
export const catalog = Effect.fnUntraced(function*(schema: string) {
  const sql = yield* PgClient.PgClient
  const rows = yield* sql<{ readonly line: string }>`
    select 'table ' || c.relname || ' ' || coalesce(array_to_string(c.reloptions, ','), '') as line
    from pg_class c where c.relnamespace = ${schema}::regnamespace and c.relkind = 'r'
    union all
    select 'column ' || c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' ' ||
      a.attnotnull || ' ' || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
    from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
    where c.relnamespace = ${schema}::regnamespace and c.relkind = 'r'
    union all
    select 'index ' || indexdef from pg_indexes where schemaname = ${schema}
    union all
    select 'function ' || pg_get_functiondef(p.oid) from pg_proc p where p.pronamespace = ${schema}::regnamespace
    order by 1`
  return rows.map(({ line }) => line.replaceAll(schema, "SCHEMA"))
})
