/**
 * Modifications of a `KeyValueStore` by clients that contend.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { KvKeyValueStore } from "@effect-kv/persistence"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as KeyValueStore from "effect/persistence/KeyValueStore"
import { contended } from "./support/contended.ts"
import { count, on } from "./support/store.ts"

const contenders = (n: number) =>
  Effect.gen(function*() {
    const store = yield* MemoryStore.make()
    return yield* Effect.forEach(count(n), (seed) =>
      Effect.flatMap(store.connect, Kv.make).pipe(
        Effect.flatMap((kv) => on(contended(kv, { seed }))(KvKeyValueStore.make({ prefix: "kvs/" })))
      ))
  })

/** Each store modifies the key that many times, all at once. */
const all = <A>(
  stores: ReadonlyArray<KeyValueStore.KeyValueStore>,
  times: number,
  modify: (store: KeyValueStore.KeyValueStore) => A
) => stores.flatMap((store) => count(times).map(() => modify(store)))

describe("clients that modify a key at once", () => {
  it.live("all count, as text and as bytes", () =>
    Effect.gen(function*() {
      const stores = yield* contenders(4)
      yield* stores[0]!.set("text", "0")
      yield* stores[0]!.set("bytes", new Uint8Array([0]))
      const modifies: ReadonlyArray<Effect.Effect<unknown, KeyValueStore.KeyValueStoreError>> = [
        ...all(stores, 10, (store) => store.modify("text", (value) => `${Number(value) + 1}`)),
        ...all(stores, 10, (store) => store.modifyUint8Array("bytes", ([value]) => new Uint8Array([value! + 1])))
      ]
      yield* Effect.all(modifies, { concurrency: "unbounded" })
      assert.strictEqual(yield* stores[0]!.get("text"), "40")
      assert.deepStrictEqual(yield* stores[0]!.getUint8Array("bytes"), new Uint8Array([40]))
    }).pipe(Effect.scoped))

  it.effect("do not create a key that another client deletes meanwhile", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const kv = yield* Effect.flatMap(store.connect, Kv.make)
      const other = yield* Effect.flatMap(store.connect, Kv.make)
      const deleting = Kv.mapBackend(kv, (backend) => ({
        ...backend,
        execute: (op) =>
          op._tag === "Txn"
            ? Effect.andThen(Effect.ignore(other.delete("kvs/a")), backend.execute(op))
            : backend.execute(op)
      }))
      const kvs = yield* on(deleting)(KvKeyValueStore.make({ prefix: "kvs/" }))
      yield* kvs.set("a", "1")
      assert.isUndefined(yield* kvs.modify("a", (value) => value + "2"))
      assert.strictEqual(yield* other.count(KeyRange.all), 0)
    }).pipe(Effect.scoped))

  it.live("fail without a change if others write in between until the deadline", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const kv = yield* Effect.flatMap(store.connect, Kv.make)
      const other = yield* Effect.flatMap(store.connect, Kv.make)
      const losing = Kv.mapBackend(kv, (backend) => ({
        ...backend,
        execute: (op) =>
          op._tag === "Txn"
            ? Effect.andThen(Effect.ignore(other.put("kvs/a", "other")), backend.execute(op))
            : backend.execute(op)
      }))
      const kvs = yield* on(losing)(KvKeyValueStore.make({ prefix: "kvs/" }))
      yield* kvs.set("a", "1")
      const error = yield* Effect.flip(Deadline.within(kvs.modify("a", () => "mine"), "50 millis"))
      assert.isTrue(KvError.isKvError(error.cause) && error.cause.reason._tag === "DeadlineExceeded")
      assert.strictEqual(yield* kvs.get("a"), "other")
    }).pipe(Effect.scoped))
})
