/**
 * The script that creates the schema of a store. It can be run again, also beside programs that use the store.
 */
import { epochFunctions, epochTables } from "./epochs.ts"
import { fence } from "./fence.ts"
import { functions } from "./functions.ts"
import { tables } from "./tables.ts"

export const identifier = (name: string): string => `"${name.replaceAll("\"", "\"\"")}"`

const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`

export const script = (schema: string): string =>
  tables(identifier(schema)) + epochTables(identifier(schema)) + epochFunctions(identifier(schema)) +
  functions(identifier(schema), literal(schema)) + fence(identifier(schema))
