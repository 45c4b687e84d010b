/**
 * The span of one attempt of a call: a request to one endpoint, by the conventions for gRPC. It is a child of the call's
 * span, which covers all attempts, so that retries and failovers are visible.
 */
import * as Effect from "effect/Effect"
import type * as Tracer from "effect/Tracer"
import type { Failure } from "../../grpc/Transport.ts"
import * as serverAddress from "./serverAddress.ts"

/** Sends a request in the span of its attempt. etcd's own tracing continues the trace by the header `traceparent`. */
export const around = <A>(
  call: Tracer.Span,
  endpoint: string,
  path: string,
  send: (traceparent: string) => Effect.Effect<A, Failure>
): Effect.Effect<A, Failure> =>
  Effect.useSpan(path.slice(1), {
    kind: "client",
    parent: call,
    attributes: { "rpc.system.name": "grpc", "rpc.method": path.slice(1), ...attributesOf(endpoint) }
  }, (span) =>
    Effect.onExitPrimitive(send(traceparentOf(span)), (exit) => {
      if (exit._tag === "Success") return undefined
      const [reason] = exit.cause.reasons
      if (reason?._tag !== "Fail") return undefined
      span.attribute("rpc.response.status_code", `${reason.error.code}`)
      span.attribute("error.type", `${reason.error.code}`)
      return undefined
    }))

/** Waits for a token in a span that does not contain it: a span keeps the result of its effect. */
export const aroundToken = <A>(call: Tracer.Span, fetch: Effect.Effect<A>): Effect.Effect<A> =>
  Effect.suspend(() => {
    let fetched: A
    const withoutResult = Effect.map(fetch, (result) => {
      fetched = result
    })
    return Effect.map(Effect.withSpan(withoutResult, "token", { parent: call }), () => fetched)
  })

/** Not by Effect's `HttpTraceContext`: it imports what the layer does not need, and every program would load that. */
const traceparentOf = ({ sampled, spanId, traceId }: Tracer.Span): string =>
  `00-${traceId.padStart(32, "0")}-${spanId}-${sampled ? "01" : "00"}`

/** Names the member on the call's span. The last attempt names the member that responded. */
export const name = (call: Tracer.Span | undefined, endpoint: string): void => {
  if (call === undefined) return
  const attributes = attributesOf(endpoint)
  for (const attribute in attributes) call.attribute(attribute, attributes[attribute])
}

const attributesOf = (endpoint: string): Record<string, unknown> => {
  const { address, port } = serverAddress.of(endpoint)
  return port === undefined ? { "server.address": address } : { "server.address": address, "server.port": port }
}
