/**
 * The spans of a program's calls: what they contain, and what they must not.
 */
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as Op from "@effect-kv/core/Op"
import * as Tracing from "@effect-kv/core/Tracing"
import * as MemoryLayer from "@effect-kv/memory/MemoryLayer"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import { inspect } from "node:util"

const secret = "a-value-that-is-a-secret"

/** Runs a program on a traced store and returns the spans of the calls. */
const spansOf = Effect.fnUntraced(function*<E>(program: Effect.Effect<unknown, E, Kv.Kv>) {
  const spans: Array<Tracer.NativeSpan> = []
  const tracer = Tracer.make({
    span(options) {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  yield* program.pipe(
    Effect.exit,
    Effect.provideServiceEffect(Kv.Kv, Effect.map(Kv.Kv, Kv.mapBackend(Tracing.traced({ "db.system.name": "test" })))),
    Effect.provide(MemoryLayer.layer),
    Effect.withTracer(tracer)
  )
  return spans
})

describe("Tracing", () => {
  it.effect("gives each call a client span with its operation and its keys", () =>
    Effect.gen(function*() {
      const spans = yield* spansOf(Effect.gen(function*() {
        yield* Kv.put("a", "1")
        yield* Kv.get("a")
        yield* Kv.txn({ then: [Op.put("b", "2")] })
        yield* Kv.delete("b")
      }))
      assert.deepStrictEqual(spans.map((span) => span.name), ["kv.put", "kv.range", "kv.txn", "kv.delete"])
      assert.isTrue(spans.every((span) => span.kind === "client"))
      assert.strictEqual(spans[0]?.attributes.get("kv.key"), "a")
      assert.strictEqual(spans[0]?.attributes.get("db.system.name"), "test")
      assert.strictEqual(spans[2]?.attributes.get("kv.txn"), "if 0 then 1 else 0")
    }))

  it.effect("makes no spans if no tracer is installed", () =>
    Effect.gen(function*() {
      const seen: Array<string> = []
      const recording = (backend: KvBackend): KvBackend => ({
        ...backend,
        execute: (op) =>
          Effect.andThen(
            Effect.map(Effect.orDie(Effect.currentSpan), (span) => void seen.push(span.name)),
            backend.execute(op)
          )
      })
      const kv = Kv.mapBackend(yield* Kv.Kv, (backend) => Tracing.traced({})(recording(backend)))
      yield* Effect.withSpan(kv.put("a", "1"), "caller")
      assert.deepStrictEqual(seen, ["caller"])
    }).pipe(Effect.provide(MemoryLayer.layer)))

  it.effect("never puts a value into a span, even if the call fails", () =>
    Effect.gen(function*() {
      const spans = yield* spansOf(Effect.gen(function*() {
        yield* Kv.put("a", secret, { previous: true })
        yield* Kv.testAndSet("a", Option.some(secret), secret)
        yield* Effect.exit(Kv.put("a", `${secret}\ud800`))
        yield* Effect.exit(Kv.put("a", secret, { lease: 7n }))
        yield* Kv.txn({ then: [Op.put("b", secret), Op.put("b", secret)] })
      }))
      assert.strictEqual(spans.length, 5)
      for (const span of spans) assert.notInclude(inspect(span, { depth: 10 }), secret)
    }))
})
