/**
 * Spans that exist only if a tracer is installed: Effect's built-in tracer exports nothing, so none is made for it.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as References from "effect/References"
import * as Tracer from "effect/Tracer"
import * as LastFailure from "../../backend/LastFailure.ts"

/** Whether spans of the fiber are recorded. */
export const isTraced = (fiber: Fiber.Fiber<unknown, unknown>): boolean =>
  fiber.getRef(Tracer.Tracer) !== Tracer.nativeTracer && fiber.getRef(References.TracerEnabled)

/** The attribute that each span of a call has, and no span of a user. */
export const operation = "db.operation.name"

/** The span of the call that the fiber executes, if spans are recorded and it has not ended. */
export const ofCall = (fiber: Fiber.Fiber<unknown, unknown>): Tracer.Span | undefined => {
  const span = Context.getOrUndefined(fiber.context, Tracer.ParentSpan)
  return span?._tag === "Span" && span.status._tag === "Started" && isTraced(fiber) && span.attributes.has(operation)
    ? span
    : undefined
}

/** Runs the effect in a span. `annotate` is called when it has ended, before the span ends. */
export const within = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  name: string,
  options: Tracer.SpanOptionsNoTrace,
  annotate?: (span: Tracer.Span, exit: Exit.Exit<A, E>) => void
): Effect.Effect<A, E, R> =>
  Effect.useSpan(name, options, (span) => {
    const inside = Effect.provideService(effect, Tracer.ParentSpan, span) as Effect.Effect<A, E, R>
    return annotate === undefined ? inside : Effect.onExitPrimitive(inside, (exit) => {
      annotate(span, exit)
      return undefined
    })
  })

/** Runs the effect without spans: background work must not fill the traces of the callers that it serves. */
export const without: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R> = Effect.provideService(
  References.TracerEnabled,
  false
)

/** The same context for background work: also without the record of a caller that will not wait for it. */
export const contextWithout = <R>(context: Context.Context<R>): Context.Context<R> => {
  const untraced = Context.add(context, References.TracerEnabled, false)
  return Context.get(untraced, LastFailure.Current) === undefined
    ? untraced
    : Context.add(untraced, LastFailure.Current, undefined)
}
