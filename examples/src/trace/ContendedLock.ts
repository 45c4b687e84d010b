/**
 * Records the trace of two requests that want one lock, and draws it: `docs/operating/contended-lock.svg`.
 *
 *     KV_URL=http://127.0.0.1:2379 node examples/src/trace/ContendedLock.ts docs/operating/contended-lock.svg
 */
import { DistLock, Kv } from "@effect-kv/core"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Tracer from "effect/Tracer"
import { writeFileSync } from "node:fs"
import * as StoreByUrl from "../StoreByUrl.ts"
import * as TraceSvg from "./TraceSvg.ts"

/** A tracer that keeps its spans. */
export const recorder = (): { readonly tracer: Tracer.Tracer; readonly spans: ReadonlyArray<Tracer.Span> } => {
  const spans: Array<Tracer.Span> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  return { tracer, spans }
}

const request = (name: string, onAcquired: Effect.Effect<unknown> = Effect.void) =>
  Effect.andThen(onAcquired, Effect.andThen(Effect.sleep("40 millis"), Kv.put("report", name))).pipe(
    DistLock.withDistLock("nightly"),
    Effect.withSpan(name)
  )

/** The second request finds the lock held, and waits for the first. */
export const program = Effect.gen(function*() {
  const isHeld = yield* Deferred.make<void>()
  const first = yield* Effect.forkChild(request("first request", Deferred.succeed(isHeld, undefined)), {
    startImmediately: true
  })
  yield* Deferred.await(isHeld)
  yield* request("second request")
  yield* Fiber.join(first)
})

/** The spans of the two requests, without those of the session and of background work. */
export const requestsOf = (spans: ReadonlyArray<Tracer.Span>): ReadonlyArray<Tracer.Span> => {
  const roots = spans.filter(({ name }) => name.endsWith("request"))
  return spans.filter(({ status, traceId }) =>
    status._tag === "Ended" && roots.some((root) => root.traceId === traceId)
  )
}

if (process.argv[1] === import.meta.filename) {
  const [, , file = "contended-lock.svg"] = process.argv
  const { spans, tracer } = recorder()
  NodeRuntime.runMain(
    program.pipe(
      Effect.provide(Kv.layerPrefixed("examples/contended-lock/").pipe(Layer.provide(StoreByUrl.layer))),
      Effect.withTracer(tracer),
      Effect.andThen(
        Effect.sync(() => writeFileSync(file, TraceSvg.draw("Two requests that want one lock", requestsOf(spans))))
      )
    )
  )
}
