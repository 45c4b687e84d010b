/**
 * What a role may not do that the store needs: the grants to make.
 */
import { identifier, literal } from "./schema/names.ts"
import { scriptOf } from "./schema/script.ts"
import type { Row, Statement } from "./statement.ts"

/**
 * One row: the role, the database, whether the schema exists, then what is missing on the database, the schema, each
 * table, and on functions. It needs no permission, because it reads the catalog only.
 */
export const statement = (schema: string): Statement => ({
  sql: `select
    current_user::text,
    current_database()::text,
    n.oid is not null,
    has_database_privilege(current_database(), 'create'),
    coalesce(has_schema_privilege(n.oid, 'create'), false),
    coalesce(has_schema_privilege(n.oid, 'usage'), false),
    (select coalesce(json_object_agg(t.relname, t.missing), '{}')::text from (
      select c.relname, string_agg(p, ', ' order by o) as missing
      from pg_catalog.pg_class c
      cross join unnest(array['select', 'insert', 'update', 'delete']) with ordinality as u (p, o)
      where c.relnamespace = n.oid and c.relkind = 'r' and not has_table_privilege(c.oid, p)
      group by c.relname
    ) t),
    (select count(*)::int from pg_catalog.pg_class c where c.relnamespace = n.oid and c.relkind = 'r'),
    exists (
      select from pg_catalog.pg_proc p where p.pronamespace = n.oid and not has_function_privilege(p.oid, 'execute')
    ),
    exists (
      select from pg_catalog.pg_proc p where p.pronamespace = n.oid and not pg_has_role(p.proowner, 'usage')
    )
  from (values (1)) one left join pg_catalog.pg_namespace n on n.nspname = ${literal(schema)}`,
  params: []
})

type Found = readonly [
  role: string,
  database: string,
  exists: boolean,
  mayCreateSchema: boolean,
  mayCreate: boolean,
  mayUse: boolean,
  tables: string,
  tableCount: number,
  lacksExecute: boolean,
  isForeign: boolean
]

/** The grants that are missing, as text; `undefined` if the role has all that it needs to use the store. */
export const missing = (schema: string, row: Row): string | undefined => {
  const [role, database, exists, mayCreateSchema, mayCreate, mayUse, tables, tableCount, lacksExecute, isForeign] =
    row as unknown as Found
  const name = identifier(schema)
  const on = exists
    ? [
      ...(mayUse ? [] : [`usage on schema ${name}`]),
      ...onTables(name, JSON.parse(tables) as Record<string, string>, tableCount),
      ...(lacksExecute ? [`execute on all functions in schema ${name}`] : []),
      ...(tableCount > 0 || mayCreate ? [] : [`create on schema ${name}, ${orByScript(schema)}`])
    ]
    : mayCreateSchema
    ? []
    : [`create on database ${identifier(database)}, ${orByScript(schema)}`]
  if (on.length > 0) return `the role ${identifier(role)} lacks: ${on.join("; ")}`
  return isForeign
    ? `the role ${
      identifier(role)
    } does not own the objects of the schema ${name}, which only their owner can upgrade: ` +
      `run the text of ${scriptOf(schema)} as the owner`
    : undefined
}

/** What to do if the role is not to create the schema. */
const orByScript = (schema: string): string =>
  `to create the store; or run the text of ${scriptOf(schema)} as a role that may, and set migrate: false`

const onTables = (name: string, tables: Record<string, string>, count: number): ReadonlyArray<string> => {
  const entries = Object.entries(tables)
  const [first] = entries
  return first !== undefined && entries.length === count && entries.every(([, missing]) => missing === first[1])
    ? [`${first[1]} on all tables in schema ${name}`]
    : entries.map(([table, missing]) => `${missing} on ${name}.${identifier(table)}`)
}
