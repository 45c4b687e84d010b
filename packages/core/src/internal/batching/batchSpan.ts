/**
 * The span of a batch: a trace of its own, because a request that serves several callers belongs to none of them. It is
 * linked to the span of each caller, and each of those to it.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Tracer from "effect/Tracer"
import { operationOf } from "../metrics/calls.ts"
import * as spans from "../tracing/spans.ts"
import type { BatchMember } from "./batchMember.ts"

/**
 * The context in which a batch is sent: that of the first caller with a recorded span, so that background work which
 * happens to be first does not hide the batch. Nothing that this caller's spans contain becomes a part of the batch's.
 */
export const contextOf = (members: ReadonlyArray<BatchMember>): Context.Context<never> => {
  const first = members[0]!
  const sender = isUntraced(first) ? first : members.find(({ fiber }) => spans.isTraced(fiber)) ?? first
  return withoutSpan(sender.fiber.context)
}

const withoutSpan = Context.omit(Tracer.ParentSpan, References.TracerSpanAnnotations, References.TracerSpanLinks)

/** The callers of a program have one tracer. Without one, a batch must not look at each of them. */
const isUntraced = ({ fiber }: BatchMember): boolean =>
  Context.get(fiber.context, Tracer.Tracer) === Tracer.nativeTracer

/** Runs the request of the batch in its span, if a tracer is installed. */
export const around = <A, E>(
  members: ReadonlyArray<BatchMember>,
  request: Effect.Effect<A, E>
): Effect.Effect<A, E> => {
  if (isUntraced(members[0]!)) return request
  // Found now: a caller that is interrupted before the request begins has no context any more.
  const callers = members.flatMap(({ fiber }) => Option.toArray(Option.fromUndefinedOr(spans.ofCall(fiber))))
  return callers.length === 0 ? request : Effect.useSpan(nameOf(members), {
    kind: "client",
    root: true,
    // A trace that no caller samples would have no way in.
    sampled: callers.some(({ sampled }) => sampled),
    links: callers.map(linkTo),
    attributes: { ...attributesOf(callers[0]!), "db.operation.batch.size": members.length }
  }, (span) => {
    span.attribute(spans.operation, span.name)
    for (const caller of callers) caller.addLinks([linkTo(span)])
    return Effect.onExitPrimitive(
      Effect.provideService(request, Tracer.ParentSpan, span) as Effect.Effect<A, E>,
      () => {
        for (const caller of callers) copy(span, caller, ["server.address", "server.port"])
        return undefined
      }
    )
  })
}

const linkTo = (span: Tracer.Span): Tracer.SpanLink => ({ span, attributes: {} })

/** By the convention: the operation, if all are the same. */
const nameOf = (members: ReadonlyArray<BatchMember>): string => {
  const operations = new Set(members.map(({ op }) => operationOf[op._tag]))
  return operations.size === 1 ? `BATCH ${[...operations][0]}` : "BATCH"
}

/** What the call's span says of the store. The namespaces of the callers may differ, so there is none. */
const attributesOf = (caller: Tracer.Span): Record<string, unknown> => {
  const system = caller.attributes.get("db.system.name")
  return system === undefined ? {} : { "db.system.name": system }
}

const copy = (from: Tracer.Span, to: Tracer.Span, names: ReadonlyArray<string>): void => {
  for (const name of names) {
    const value = from.attributes.get(name)
    if (value !== undefined) to.attribute(name, value)
  }
}
