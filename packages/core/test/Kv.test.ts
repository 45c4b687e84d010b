/**
 * What `Kv` asks of a backend: how often, and with what.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as Entry from "@effect-kv/core/Entry"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import type * as Op from "@effect-kv/core/Op"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { inspect } from "node:util"

type Answer = (op: Op.Op) => Effect.Effect<Op.Response, KvError.KvError> | undefined

/** A client of a fresh store that keeps the operations it was asked for, and answers some of them by itself. */
const recording = Effect.fnUntraced(function*(answer: Answer = () => undefined) {
  const memory = yield* MemoryStore.make()
  const backend = yield* memory.connect
  const asked: Array<Op.Op> = []
  const kv = yield* Kv.make({
    ...backend,
    execute: (op) =>
      Effect.suspend(() => {
        asked.push(op)
        return answer(op) ?? backend.execute(op)
      })
  })
  return { kv, asked, store: yield* Kv.make(backend) }
})

const indeterminate = KvError.fail(new KvError.Indeterminate({ message: "the answer was lost" }))

describe("a Kv", () => {
  it.effect("has data and watch methods and nothing else", () =>
    Effect.gen(function*() {
      const { kv } = yield* recording()
      const others = Object.entries(kv).filter(([, value]) => typeof value !== "function").map(([name]) => name)
      assert.deepStrictEqual(others, [Kv.TypeId])
      assert.notInclude(inspect(kv, { depth: 5 }), "leaseGrant", "printing it shows no backend")
    }))

  it.effect("has a function in its module for each of its methods", () =>
    Effect.gen(function*() {
      const { kv } = yield* recording()
      const missing = Object.keys(kv).filter((name) => name !== Kv.TypeId && !(name in Kv))
      assert.deepStrictEqual(missing, [])
    }))

  it.effect("rejects a string where a range belongs, and says what to write", () =>
    Effect.gen(function*() {
      const { kv } = yield* recording()
      const notARange = "config/" as unknown as KeyRange.KeyRange
      const calls: ReadonlyArray<Effect.Effect<unknown, KvError.KvError>> = [
        kv.range(notARange),
        kv.deleteRange(notARange),
        Stream.runDrain(kv.watch(notARange)),
        Effect.scoped(kv.subscribe(notARange))
      ]
      for (const call of calls) {
        const error = yield* Effect.flip(call)
        assert.strictEqual(error.reason._tag, "InvalidRequest")
        assert.match(error.message, /KeyRange\.prefix/)
        assert.strictEqual(error.key, "config/")
      }
    }))

  it.effect("leaves its plumbing intact in a copy that overrides a method", () =>
    Effect.gen(function*() {
      const { kv } = yield* recording()
      const copy: Kv.Kv = { ...kv, get: () => Effect.succeed(Option.some("overridden")) }
      const locked = DistLock.withDistLock(Kv.put("k", "v"), "l")
      yield* Effect.provideService(locked, Kv.Kv, copy)
      assert.strictEqual((yield* kv.range(KeyRange.all)).count, 1)
    }))
})

describe("Kv.modify", () => {
  it.effect("costs two round trips, and one more for each time that it lost", () =>
    Effect.gen(function*() {
      const lost = { times: 3 }
      const memory: { store?: Kv.Kv } = {}
      const { asked, kv, store } = yield* recording((op) =>
        op._tag === "Txn" && lost.times-- > 0
          ? Effect.andThen(memory.store!.put("k", `other ${lost.times}`), backendOf(memory.store!).execute(op))
          : undefined
      )
      memory.store = store
      yield* store.put("k", "first")
      const seen: Array<string> = []
      const result = yield* kv.modify("k", (current) => {
        seen.push(Option.getOrElse(current, () => "none"))
        return "mine"
      })
      assert.strictEqual(result, "mine")
      assert.deepStrictEqual(seen, ["first", "other 2", "other 1", "other 0"])
      assert.deepStrictEqual(asked.map((op) => op._tag), ["Range", "Txn", "Txn", "Txn", "Txn"])
    }))

  it.effect("does not repeat a write whose outcome is unknown", () =>
    Effect.gen(function*() {
      const { asked, kv } = yield* recording((op) => op._tag === "Txn" ? indeterminate : undefined)
      const error = yield* Effect.flip(kv.modify("k", () => "v"))
      assert.strictEqual(error.reason._tag, "Indeterminate")
      assert.deepStrictEqual(asked.map((op) => op._tag), ["Range", "Txn"])
    }))

  it.effect("puts nothing where the value is not text", () =>
    Effect.gen(function*() {
      const { asked, kv, store } = yield* recording()
      yield* store.put("k", Uint8Array.of(0xff))
      const error = yield* Effect.flip(kv.modify("k", () => assert.fail("there is no text to modify")))
      assert.strictEqual(error.reason._tag, "InvalidRequest")
      assert.deepStrictEqual(asked.map((op) => op._tag), ["Range"])
    }))

  it.effect("a function that throws is a defect, and writes nothing", () =>
    Effect.gen(function*() {
      const { asked, kv } = yield* recording()
      const exit = yield* Effect.exit(kv.modify("k", () => {
        throw new Error("a bug")
      }))
      assert.isTrue(exit._tag === "Failure")
      assert.deepStrictEqual(asked.map((op) => op._tag), ["Range"])
    }))
})

describe("Kv.rangeStream", () => {
  const pages = (asked: ReadonlyArray<Op.Op>) =>
    asked.flatMap((op) => op._tag === "Range" ? [[op.limit, op.revision, op.range]] : [])

  it.effect("asks for pages, all after the first at the first one's revision, and for none too many", () =>
    Effect.gen(function*() {
      const { asked, kv, store } = yield* recording()
      for (const key of ["a", "b", "c", "d"]) yield* store.put(key, "v")
      const { revision } = yield* store.put("e", "v")
      const entries = yield* Stream.runCollect(kv.rangeStream(KeyRange.all, { pageSize: 2 }))
      assert.strictEqual(entries.length, 5)
      assert.deepStrictEqual(pages(asked), [
        [2, undefined, KeyRange.all],
        [2, revision, KeyRange.from("b\u0000")],
        [2, revision, KeyRange.from("d\u0000")]
      ])
    }))

  it.effect("asks once where all fits", () =>
    Effect.gen(function*() {
      const { asked, kv, store } = yield* recording()
      yield* store.put("a", "v")
      yield* store.put("b", "v")
      yield* Stream.runCollect(kv.rangeStream(KeyRange.all, { pageSize: 2 }))
      yield* Stream.runCollect(kv.rangeStream(KeyRange.key("a"), { pageSize: 1 }))
      assert.strictEqual(asked.length, 2)
    }))

  it.effect("asks for no page before it is wanted", () =>
    Effect.gen(function*() {
      const { asked, kv, store } = yield* recording()
      yield* Effect.forEach(Array.from({ length: 20 }, (_, i) => i), (i) => store.put(`${i}`, "v"))
      yield* Stream.runDrain(Stream.take(kv.rangeStream(KeyRange.all, { pageSize: 2 }), 3))
      assert.strictEqual(asked.length, 2)
    }))

  it.effect("an empty stream is one question", () =>
    Effect.gen(function*() {
      const { asked, kv } = yield* recording()
      assert.deepStrictEqual(yield* Stream.runCollect(kv.rangeStream(KeyRange.all)), [])
      assert.strictEqual(asked.length, 1)
    }))
})

describe("Kv", () => {
  it.effect("one call is one operation", () =>
    Effect.gen(function*() {
      const { asked, kv } = yield* recording()
      yield* kv.get("k")
      yield* kv.getEntry("k")
      yield* kv.count(KeyRange.all)
      yield* kv.put("k", "v")
      yield* kv.testAndSet("k", Option.some("v"), "w")
      yield* kv.compareAndSet("k", 1n, "w")
      yield* kv.delete("k")
      assert.deepStrictEqual(asked.map((op) => op._tag), ["Range", "Range", "Range", "Put", "Txn", "Txn", "Delete"])
      assert.isTrue(asked[2]?._tag === "Range" && asked[2].countOnly)
    }))

  it.effect("a failure passes as it is", () =>
    Effect.gen(function*() {
      const { asked, kv } = yield* recording(() => indeterminate)
      const calls: ReadonlyArray<Effect.Effect<unknown, KvError.KvError>> = [
        kv.put("k", "v"),
        kv.delete("k"),
        kv.testAndSet("k", Option.none(), "v"),
        kv.compareAndSet("k", 0n, "v"),
        Stream.runDrain(kv.rangeStream(KeyRange.all))
      ]
      for (const call of calls) assert.strictEqual((yield* Effect.flip(call)).reason._tag, "Indeterminate")
      assert.strictEqual(asked.length, calls.length)
    }))

  it.effect("values given as bytes and as text are read as both", () =>
    Effect.gen(function*() {
      const entry = Entry.make({
        key: "k",
        value: new TextEncoder().encode("\u00e9"),
        createRevision: 1n,
        modRevision: 1n,
        version: 1,
        lease: Option.none()
      })
      const { kv } = yield* recording(() =>
        Effect.succeed({ _tag: "Range", revision: 1n, entries: [entry], count: 1, more: false })
      )
      assert.deepStrictEqual(yield* kv.get("k"), Option.some("\u00e9"))
    }))

  it.effect("a layer is made from a backend, and ends with its scope", () =>
    Effect.gen(function*() {
      const memory = yield* MemoryStore.make()
      yield* Kv.put("k", "v").pipe(Effect.provide(Kv.layer(memory.connect)))
      assert.strictEqual((yield* memory.statistics).clients, 0)
      const program = Effect.andThen(Kv.put("k", "w"), Kv.get("k"))
      const layer = Layer.provide(Kv.layerPrefixed("app/"), Kv.layer(memory.connect))
      assert.deepStrictEqual(yield* Effect.provide(program, layer), Option.some("w"))
      assert.deepStrictEqual(yield* Effect.provide(Kv.get("k"), Kv.layer(memory.connect)), Option.some("v"))
    }))

  it.effect("functions of backends compose, the last one outermost", () =>
    Effect.gen(function*() {
      const { kv } = yield* recording()
      const log: Array<string> = []
      const logging = (name: string) => (backend: KvBackend): KvBackend => ({
        ...backend,
        execute: (op) => {
          log.push(name)
          return backend.execute(op)
        }
      })
      yield* Kv.mapBackend(Kv.mapBackend(kv, logging("inner")), logging("outer")).get("k")
      yield* Kv.mapBackend(logging("piped"))(kv).put("k", "v")
      assert.deepStrictEqual(log, ["outer", "inner", "piped"])
    }))
})
