/**
 * The script that creates the schema of a store, or upgrades it. It is one statement, so it is applied as a whole or not
 * at all. It can be run again, even while programs use the store.
 *
 * A schema belongs to a store if it has the function `schema_version` and the table `store`. Everything else in it belongs
 * to other programs, and is not changed.
 */
import { epochFunctions } from "./epochs.ts"
import { fence } from "./fence.ts"
import { functions } from "./functions.ts"
import { identifier, literal } from "./names.ts"
import { tables } from "./tables.ts"
import { upgrades, version, versions } from "./version.ts"

/** The error of a schema that another program uses: `duplicate_schema`. */
export const foreignState = "42P06"

/** The oldest version that Postgres itself supports, and the tests run on, as `server_version_num` has it. */
export const oldestServer = 150000

/** The call that returns the script of a schema, for messages. */
export const scriptOf = (schema: string): string => `PostgresSchema.script(${JSON.stringify(schema)})`

/** Whether the schema `n` of `pg_namespace` holds a store, as SQL. */
export const isStore = `exists (select from pg_catalog.pg_class c where c.relnamespace = n.oid and c.relname = 'store')
      and exists (
        select from pg_catalog.pg_proc p where p.pronamespace = n.oid and p.proname = 'schema_version'
          and p.pronargs = 0 and p.prorettype = 'integer'::regtype
      )`

export const script = (name: string): string => {
  const schema = identifier(name)
  const found = `pg_catalog.pg_namespace n where n.nspname = ${literal(name)}`
  return `do $effect_kv$
declare
  present integer := 0;
  strange text;
  old oid[];
  g record;
begin
  if current_setting('server_version_num')::integer < ${oldestServer} then
    raise exception using errcode = '0A000',
      message = 'effect-kv needs PostgreSQL ${oldestServer / 10000} or later, and this server is PostgreSQL '
        || current_setting('server_version');
  end if;
  -- Of several that run at once, one creates or upgrades, and the others wait and find it done.
  perform pg_advisory_xact_lock(hashtextextended('effect-kv schema', 0));
  if exists (
    select from ${found}
      and ${isStore}
  ) then
    present := ${schema}.schema_version();
  else
    select coalesce(
      (select c.relname from pg_catalog.pg_class c where c.relnamespace = n.oid limit 1),
      (select p.proname from pg_catalog.pg_proc p where p.pronamespace = n.oid limit 1)
    ) into strange from ${found};
    if strange is not null then
      raise exception using errcode = '${foreignState}',
        message = 'the schema ' || quote_ident(${literal(name)}) || ' belongs to another program: it holds '
          || quote_ident(strange) || ' and no store';
    end if;
  end if;
  if present >= ${version} then return; end if;

  -- Under repeatable read a schema that was created meanwhile is not seen. The insertion into its table fails for that.
  if not exists (select from ${found}) then create schema if not exists ${schema}; end if;
  old := array(select p.oid from pg_catalog.pg_proc p, ${found} and p.pronamespace = n.oid);
  if present = 0 then
${tables(schema)}
  end if;
${upgrades.map(({ statements, to }) => `  if present < ${to} then\n${statements(schema)}\n  end if;\n`).join("")}
${epochFunctions(schema)}${functions(schema, literal(name))}${fence(schema)}${versions(schema)}
  -- Roles that may write to the store of the version before may go on, also where functions are not public by default.
  for g in
    select p.oid::regprocedure as new, a.grantee
    from pg_catalog.pg_proc w cross join aclexplode(w.proacl) a, pg_catalog.pg_proc p, ${found}
      and w.oid = any (old) and w.pronamespace = n.oid and w.proname = 'write' and a.grantee <> w.proowner
      and p.pronamespace = n.oid and p.oid <> all (old)
  loop
    execute format(
      'grant execute on function %s to %s', g.new, case when g.grantee = 0 then 'public' else g.grantee::regrole::text end
    );
  end loop;
end $effect_kv$;
`
}
