/**
 * A scope within the current one, for resources that are kept only if their acquisition succeeds.
 */
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"

/** Runs the effect with a child of the current scope. Closes the child at once unless `keep` says to keep it. */
export const inChildScope = <A, E, R>(
  use: (scope: Scope.Closeable) => Effect.Effect<A, E, R>,
  keep: (exit: Exit.Exit<A, E>) => boolean
): Effect.Effect<A, E, R | Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(Effect.flatMap(Effect.scope, Scope.fork), (scope) =>
      Effect.onExit(
        restore(use(scope)),
        (exit) => keep(exit) ? Effect.void : Scope.close(scope, exit)
      ))
  )
