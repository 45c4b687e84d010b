/**
 * The versions of the schema, and what each changed.
 */
import { entryPages } from "./entryPages.ts"
import { epochTables } from "./epochs.ts"
import { replicaIdentity } from "./replicaIdentity.ts"
import { voidTables } from "./voids.ts"

/**
 * The version of the schema, which is that of the clients that need it.
 *
 * Raise it with the first change after a release; the test of the schema says when. Clients of the version before run on
 * while and after the schema is upgraded, so a change follows these rules:
 *
 * - A function that has new parameters, columns or another meaning gets a new name. What clients call is dropped with the
 *   version after the next one, when `oldestClient` has been raised. This holds for functions that only other functions
 *   call, too: a call in flight may find the new ones.
 * - A new column has a default, and is added without one that rewrites the table: statements of clients that wait for the
 *   upgrade would find a rewritten table empty. A new table or column is a step of its own in `upgrades`.
 */
export const version = 2

/** The version of the oldest clients that can use a schema of this version. */
export const oldestClient = 1

export interface Upgrade {
  /** The version that the statements lead to. */
  readonly to: number
  readonly statements: (schema: string) => string
}

/** What an upgrade changes in tables, in order. It replaces the functions in any case. */
export const upgrades: ReadonlyArray<Upgrade> = [
  {
    to: 2,
    statements: (schema) => epochTables(schema) + voidTables(schema) + replicaIdentity(schema) + entryPages(schema)
  }
]

/** The functions that report the versions. */
export const versions = (schema: string): string => `
create or replace function ${schema}.oldest_client() returns integer
language sql immutable as $fn$ select ${oldestClient} $fn$;

create or replace function ${schema}.schema_version() returns integer
language sql immutable as $fn$ select ${version} $fn$;
`
