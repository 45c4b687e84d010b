/**
 * The schema of a store, for databases in which the application may not create it.
 */
import * as internal from "./internal/schema/script.ts"

/**
 * The SQL that creates the schema of a store, with all its tables and functions.
 *
 * **When to use**
 *
 * With the layer's option `migrate: false`: a role that may create schemas runs the script once, and again after each
 * update of this package. It can be run while programs use the store.
 *
 * **Details**
 *
 * `schema` is the layer's option of that name. Default: `effect_kv`. The role of the application needs `usage` on the
 * schema, `select`, `insert`, `update` and `delete` on its tables, and `execute` on its functions.
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
export const script = (schema = "effect_kv"): string => internal.script(schema)
