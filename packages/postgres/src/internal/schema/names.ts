/**
 * The schema's name in SQL. A `$` is written as an escape: the text of a function ends at `$fn$`.
 */
export const identifier = (name: string): string => {
  const doubled = name.replaceAll("\"", "\"\"")
  return name.includes("$") ? `U&"${doubled.replaceAll("\\", "\\\\").replaceAll("$", "\\0024")}"` : `"${doubled}"`
}

/** An escape string, because what a backslash means in others depends on `standard_conforming_strings`. */
export const literal = (text: string): string =>
  `E'${text.replaceAll("\\", "\\\\").replaceAll("'", "''").replaceAll("$", "\\044")}'`

/** Why a store cannot be in the schema of this name; `undefined` if it can. */
export const problemWith = (schema: string): string | undefined => {
  const bytes = new TextEncoder().encode(schema).length
  if (bytes < 1 || bytes > 63 || schema.includes("\u0000") || !schema.isWellFormed()) {
    return "schema must be the name of a schema: 1 to 63 bytes of text without NUL"
  }
  if (schema === "public") return `the schema "public" is shared with every program of the database: ${ofItsOwn}`
  return schema === "information_schema" || schema.startsWith("pg_")
    ? `the schema ${identifier(schema)} is reserved for Postgres: ${ofItsOwn}`
    : undefined
}

/** What to do about a schema that a store cannot be in. */
export const ofItsOwn = `give the store a schema of its own by the option schema, such as "effect_kv"`
