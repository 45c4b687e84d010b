/**
 * The schema of a store, for databases in which the application may not create it.
 */
import { problemWith } from "./internal/schema/names.ts"
import * as internal from "./internal/schema/script.ts"
import * as versions from "./internal/schema/version.ts"

/**
 * The version of the schema that this version of the package creates and upgrades to. The database reports its own as
 * `select effect_kv.schema_version()`.
 *
 * @since 0.1.0
 */
export const version: number = versions.version

/**
 * The SQL that creates the schema of a store, or upgrades it, with all its tables and functions.
 *
 * **When to use**
 *
 * With the layer's option `migrate: false`: a role that may create schemas runs the script once, and again before each
 * update of this package.
 *
 * **Details**
 *
 * The script is one statement: it is applied as a whole or not at all. It does nothing if the schema has this version or a
 * later one, and fails if the schema belongs to another program. It can be run while programs use the store, even those
 * of the previous version of the schema.
 *
 * `schema` is the layer's option of that name. Default: `effect_kv`. The role of the application needs `usage` on the
 * schema, `select`, `insert`, `update` and `delete` on its tables, and `execute` on its functions.
 *
 * **Gotchas**
 *
 * Throws a `RangeError` for a name that the layer rejects, such as `public`.
 *
 * @example
 * ```ts
 * import { PostgresSchema } from "@effect-kv/postgres"
 *
 * const created = PostgresSchema.script().includes(`create schema if not exists "effect_kv"`) // => true
 * ```
 *
 * @since 0.1.0
 */
export const script = (schema = "effect_kv"): string => {
  const problem = problemWith(schema)
  if (problem !== undefined) throw new RangeError(problem)
  return internal.script(schema)
}
