/**
 * The span of a lock's hold, from its acquisition to its release or loss.
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Tracer from "effect/Tracer"
import type { LockLost } from "../../values/LockError.ts"

export class HoldSpan {
  readonly span: Tracer.Span
  readonly #clock: Clock.Clock

  constructor(span: Tracer.Span, clock: Clock.Clock) {
    this.span = span
    this.#clock = clock
  }

  lost(loss: Exit.Exit<never, LockLost>): void {
    this.#end("lost", loss)
  }

  released(): void {
    this.#end("released", Exit.void)
  }

  #end(outcome: string, exit: Exit.Exit<void, LockLost>): void {
    if (this.span.status._tag === "Ended") return
    this.span.attribute("effect_kv.outcome", outcome)
    this.span.end(this.#clock.currentTimeNanosUnsafe(), exit)
  }
}

/** Runs the work under a lock as a child of its hold. */
export const inside = <A, E, R>(
  span: Tracer.Span | undefined,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  span === undefined ? effect : Effect.provideService(effect, Tracer.ParentSpan, span) as Effect.Effect<A, E, R>
