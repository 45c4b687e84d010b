/**
 * Connections to a server that only reads. They must not stay in the pool: behind a proxy or a name, the next one leads to
 * the primary.
 */
import * as Effect from "effect/Effect"
import type { Connection } from "effect/sql/SqlConnection"
import type { SqlError } from "effect/sql/SqlError"
import * as sqlErrors from "./sqlErrors.ts"

/** Ends the connection if the statement fails because the server only reads. The pool opens another. */
export const leavingStandby =
  (connection: Connection) => <A>(statement: Effect.Effect<A, SqlError>): Effect.Effect<A, SqlError> =>
    Effect.tapError(
      statement,
      (error) =>
        sqlErrors.isReadOnly(error)
          ? Effect.ignore(connection.executeValuesUnprepared("select pg_terminate_backend(pg_backend_pid())", []))
          : Effect.void
    )
