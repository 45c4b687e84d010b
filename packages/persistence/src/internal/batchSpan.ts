/**
 * The span of a batch of updates: a trace of its own, linked to the span of each caller and back, because a request that
 * serves several callers belongs to none of them. Without a traced caller, no span is made.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as References from "effect/References"
import * as Tracer from "effect/Tracer"

/** A caller whose spans are recorded. */
export interface Caller {
  readonly span: Tracer.AnySpan
  readonly tracer: Tracer.Tracer
}

/** The caller that the fiber executes, if its spans are recorded and it is in one. */
export const callerOf = (fiber: Fiber.Fiber<unknown, unknown>): Caller | undefined => {
  const tracer = fiber.getRef(Tracer.Tracer)
  const span = Context.getOrUndefined(fiber.context, Tracer.ParentSpan)
  return span === undefined || tracer === Tracer.nativeTracer || !fiber.getRef(References.TracerEnabled)
    ? undefined
    : { span, tracer }
}

/** Runs the work of a batch in its span. */
export const around = <A, E>(
  work: Effect.Effect<A, E>,
  callers: ReadonlyArray<Caller | undefined>
): Effect.Effect<A, E> => {
  const traced = callers.filter((caller) => caller !== undefined)
  const [first] = traced
  if (first === undefined) return Effect.withTracerEnabled(work, false)
  return Effect.useSpan("BATCH rate limit", {
    kind: "internal",
    root: true,
    // A trace that no caller samples would have no way in.
    sampled: traced.some(({ span }) => span.sampled),
    links: traced.map(linkTo),
    attributes: { "batch.size": callers.length }
  }, (span) => {
    for (const caller of traced) if (caller.span._tag === "Span") caller.span.addLinks([linkTo({ span })])
    return Effect.provideService(work, Tracer.ParentSpan, span)
  }).pipe(Effect.provideService(Tracer.Tracer, first.tracer))
}

const linkTo = ({ span }: Pick<Caller, "span">): Tracer.SpanLink => ({ span, attributes: {} })
