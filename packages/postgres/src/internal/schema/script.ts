/**
 * The script that creates the schema of a store. It can be run again, also beside programs that use the store.
 */
import { epochFunctions, epochTables } from "./epochs.ts"
import { fence } from "./fence.ts"
import { functions } from "./functions.ts"
import { tables } from "./tables.ts"

export const identifier = (name: string): string => `"${name.replaceAll("\"", "\"\"")}"`

const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`

/** The oldest version that Postgres itself supports, and the tests run on, as `server_version_num` has it. */
export const oldestServer = 150000

/** Rejects a server that is too old, before it fails at some function that it lacks. */
const requireServer = `
do $version$ begin
  if current_setting('server_version_num')::integer < ${oldestServer} then
    raise exception 'effect-kv needs PostgreSQL ${oldestServer / 10000} or later, and this server is PostgreSQL %',
      current_setting('server_version') using errcode = '0A000';
  end if;
end $version$;
`

export const script = (schema: string): string =>
  requireServer + tables(identifier(schema)) + epochTables(identifier(schema)) + epochFunctions(identifier(schema)) +
  functions(identifier(schema), literal(schema)) + fence(identifier(schema))
