/**
 * Work that several callers share. It must not inherit the context (fences, deadline, span, clock) of the caller that
 * happened to start it, so it runs in the context in which the layer was built, without fences.
 */
import * as Fence from "@effect-kv/core/Fence"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"

export interface Shared {
  <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E>
}

/** Runs effects in the context of the calling fiber. */
export const make: Effect.Effect<Shared> = Effect.contextWith((context: Context.Context<never>) =>
  Effect.succeed<Shared>((effect) =>
    Effect.updateContext(Fence.unfenced(effect), (_: Context.Context<never>) => context)
  )
)
