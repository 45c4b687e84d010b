/**
 * The operations that `Kv` sends to a backend.
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

type Respond = (op: Op.Op) => Effect.Effect<Op.Response, KvError.KvError> | undefined

/** A client of a new store that records the operations sent to the backend. `respond` replaces some responses. */
const recording = Effect.fnUntraced(function*(respond: Respond = () => undefined) {
  const memory = yield* MemoryStore.make()
  const backend = yield* memory.connect
  const sent: Array<Op.Op> = []
  const kv = yield* Kv.make({
    ...backend,
    execute: (op) =>
      Effect.suspend(() => {
        sent.push(op)
        return respond(op) ?? backend.execute(op)
      })
  })
  return { kv, sent, store: yield* Kv.make(backend) }
})

const indeterminate = KvError.fail(new KvError.Indeterminate({ message: "the response was lost" }))

describe("a Kv", () => {
  it.effect("has data and watch methods and no other members", () =>
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

  it.effect("keeps its internals in a copy that overrides a method", () =>
    Effect.gen(function*() {
      const { kv } = yield* recording()
      const copy: Kv.Kv = { ...kv, get: () => Effect.succeed(Option.some("overridden")) }
      const locked = DistLock.withDistLock(Kv.put("k", "v"), "l")
      yield* Effect.provideService(locked, Kv.Kv, copy)
      assert.strictEqual((yield* kv.range(KeyRange.all)).count, 1)
    }))
})

describe("Kv.modify", () => {
  it.effect("takes two round trips, and one more for each time that another client wrote first", () =>
    Effect.gen(function*() {
      const lost = { times: 3 }
      const memory: { store?: Kv.Kv } = {}
      const { sent, kv, store } = yield* recording((op) =>
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
      assert.deepStrictEqual(sent.map((op) => op._tag), ["Range", "Txn", "Txn", "Txn", "Txn"])
    }))

  it.effect("does not repeat a write whose outcome is unknown", () =>
    Effect.gen(function*() {
      const { sent, kv } = yield* recording((op) => op._tag === "Txn" ? indeterminate : undefined)
      const error = yield* Effect.flip(kv.modify("k", () => "v"))
      assert.strictEqual(error.reason._tag, "Indeterminate")
      assert.deepStrictEqual(sent.map((op) => op._tag), ["Range", "Txn"])
    }))

  it.effect("fails without a write if the value is not text", () =>
    Effect.gen(function*() {
      const { sent, kv, store } = yield* recording()
      yield* store.put("k", Uint8Array.of(0xff))
      const error = yield* Effect.flip(kv.modify("k", () => assert.fail("there is no text to modify")))
      assert.strictEqual(error.reason._tag, "InvalidRequest")
      assert.deepStrictEqual(sent.map((op) => op._tag), ["Range"])
    }))

  it.effect("dies without a write if the function throws", () =>
    Effect.gen(function*() {
      const { sent, kv } = yield* recording()
      const exit = yield* Effect.exit(kv.modify("k", () => {
        throw new Error("a bug")
      }))
      assert.isTrue(exit._tag === "Failure")
      assert.deepStrictEqual(sent.map((op) => op._tag), ["Range"])
    }))
})

describe("Kv.rangeStream", () => {
  const pages = (sent: ReadonlyArray<Op.Op>) =>
    sent.flatMap((op) => op._tag === "Range" ? [[op.limit, op.revision, op.range]] : [])

  it.effect("reads pages at the revision of the first one, and no page too many", () =>
    Effect.gen(function*() {
      const { sent, kv, store } = yield* recording()
      for (const key of ["a", "b", "c", "d"]) yield* store.put(key, "v")
      const { revision } = yield* store.put("e", "v")
      const entries = yield* Stream.runCollect(kv.rangeStream(KeyRange.all, { pageSize: 2 }))
      assert.strictEqual(entries.length, 5)
      assert.deepStrictEqual(pages(sent), [
        [2, undefined, KeyRange.all],
        [2, revision, KeyRange.from("b\u0000")],
        [2, revision, KeyRange.from("d\u0000")]
      ])
    }))

  it.effect("reads once if everything fits into one page", () =>
    Effect.gen(function*() {
      const { sent, kv, store } = yield* recording()
      yield* store.put("a", "v")
      yield* store.put("b", "v")
      yield* Stream.runCollect(kv.rangeStream(KeyRange.all, { pageSize: 2 }))
      yield* Stream.runCollect(kv.rangeStream(KeyRange.key("a"), { pageSize: 1 }))
      assert.strictEqual(sent.length, 2)
    }))

  it.effect("reads no page before it is needed", () =>
    Effect.gen(function*() {
      const { sent, kv, store } = yield* recording()
      yield* Effect.forEach(Array.from({ length: 20 }, (_, i) => i), (i) => store.put(`${i}`, "v"))
      yield* Stream.runDrain(Stream.take(kv.rangeStream(KeyRange.all, { pageSize: 2 }), 3))
      assert.strictEqual(sent.length, 2)
    }))

  it.effect("reads once if the range is empty", () =>
    Effect.gen(function*() {
      const { sent, kv } = yield* recording()
      assert.deepStrictEqual(yield* Stream.runCollect(kv.rangeStream(KeyRange.all)), [])
      assert.strictEqual(sent.length, 1)
    }))
})

describe("Kv", () => {
  it.effect("sends one operation for each call", () =>
    Effect.gen(function*() {
      const { sent, kv } = yield* recording()
      yield* kv.get("k")
      yield* kv.getEntry("k")
      yield* kv.count(KeyRange.all)
      yield* kv.put("k", "v")
      yield* kv.testAndSet("k", Option.some("v"), "w")
      yield* kv.compareAndSet("k", 1n, "w")
      yield* kv.delete("k")
      assert.deepStrictEqual(sent.map((op) => op._tag), ["Range", "Range", "Range", "Put", "Txn", "Txn", "Delete"])
      assert.isTrue(sent[2]?._tag === "Range" && sent[2].countOnly)
    }))

  it.effect("passes the reason of a failure on unchanged", () =>
    Effect.gen(function*() {
      const { sent, kv } = yield* recording(() => indeterminate)
      const calls: ReadonlyArray<Effect.Effect<unknown, KvError.KvError>> = [
        kv.put("k", "v"),
        kv.delete("k"),
        kv.testAndSet("k", Option.none(), "v"),
        kv.compareAndSet("k", 0n, "v"),
        Stream.runDrain(kv.rangeStream(KeyRange.all))
      ]
      for (const call of calls) assert.strictEqual((yield* Effect.flip(call)).reason._tag, "Indeterminate")
      assert.strictEqual(sent.length, calls.length)
    }))

  it.effect("reads a value that was given as bytes as text", () =>
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

  it.effect("makes a layer from a backend, and closes the client with the layer's scope", () =>
    Effect.gen(function*() {
      const memory = yield* MemoryStore.make()
      yield* Kv.put("k", "v").pipe(Effect.provide(Kv.layer(memory.connect)))
      assert.strictEqual((yield* memory.statistics).clients, 0)
      const program = Effect.andThen(Kv.put("k", "w"), Kv.get("k"))
      const layer = Layer.provide(Kv.layerPrefixed("app/"), Kv.layer(memory.connect))
      assert.deepStrictEqual(yield* Effect.provide(program, layer), Option.some("w"))
      assert.deepStrictEqual(yield* Effect.provide(Kv.get("k"), Kv.layer(memory.connect)), Option.some("v"))
    }))

  it.effect("composes wrappers of backends, the last one outermost", () =>
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
