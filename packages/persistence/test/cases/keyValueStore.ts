/**
 * What `KeyValueStore` promises, on any store.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import * as Lease from "@effect-kv/core/Lease"
import { KvKeyValueStore } from "@effect-kv/persistence"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as KeyValueStore from "effect/persistence/KeyValueStore"
import * as Schema from "effect/Schema"
import { type Case, client, clients, count, on } from "../support/store.ts"

const storeOn = (kv: Kv.Kv, prefix = "kvs/") => on(kv)(KvKeyValueStore.make({ prefix }))

const store = Effect.flatMap(client, (kv) => storeOn(kv))

const bytes = (text: string) => new TextEncoder().encode(text)

export const cases: ReadonlyArray<Case> = [
  {
    title: "a value that was set is read back, and replaced by the next",
    run: Effect.gen(function*() {
      const kvs = yield* store
      assert.isUndefined(yield* kvs.get("/foo/bar"))
      yield* kvs.set("/foo/bar", "1")
      assert.strictEqual(yield* kvs.get("/foo/bar"), "1")
      yield* kvs.set("/foo/bar", "2")
      assert.strictEqual(yield* kvs.get("/foo/bar"), "2")
      assert.strictEqual(yield* kvs.size, 1)
    })
  },
  {
    title: "text is read as text, whatever it looks like, and bytes that are not text as base64",
    run: Effect.gen(function*() {
      const kvs = yield* store
      for (const text of ["Zm9v", "héllo 👋", "", "\ufeffa"]) {
        yield* kvs.set("text", text)
        assert.strictEqual(yield* kvs.get("text"), text)
        assert.deepStrictEqual(yield* kvs.getUint8Array("text"), bytes(text))
      }
      yield* kvs.set("binary", new Uint8Array([0, 42, 255, 128]))
      assert.strictEqual(yield* kvs.get("binary"), "ACr/gA==")
      assert.deepStrictEqual(yield* kvs.getUint8Array("binary"), new Uint8Array([0, 42, 255, 128]))
      yield* kvs.set("binary", bytes("plain"))
      assert.strictEqual(yield* kvs.get("binary"), "plain")
    })
  },
  {
    title: "a removed key is missing, and removing it again is a success",
    run: Effect.gen(function*() {
      const kvs = yield* store
      yield* kvs.set("a", "1")
      assert.isTrue(yield* kvs.has("a"))
      yield* kvs.remove("a")
      yield* kvs.remove("a")
      assert.isFalse(yield* kvs.has("a"))
      assert.isUndefined(yield* kvs.get("a"))
      assert.isTrue(yield* kvs.isEmpty)
    })
  },
  {
    title: "clear deletes the keys under the prefix in one write, and no other key",
    run: Effect.gen(function*() {
      const kv = yield* client
      const kvs = yield* storeOn(kv)
      const other = yield* storeOn(kv, "kvt/")
      yield* other.set("a", "kept")
      yield* kv.put("lock/1", "kept")
      yield* Effect.forEach(count(5), (i) => kvs.set(`${i}`, "x"))
      const before = (yield* kv.range(KeyRange.all)).revision
      yield* kvs.clear
      assert.strictEqual((yield* kv.range(KeyRange.all)).revision, before + 1n)
      assert.strictEqual(yield* kvs.size, 0)
      assert.deepStrictEqual((yield* kv.range(KeyRange.all)).entries.map(({ key }) => key), ["kvt/a", "lock/1"])
    })
  },
  {
    title: "clearPrefix deletes the keys that begin with it, and with an empty one all",
    run: Effect.gen(function*() {
      const kvs = yield* store
      yield* Effect.forEach(["a", "a/1", "a/2", "b"], (key) => kvs.set(key, "x"))
      yield* kvs.clearPrefix("a/")
      assert.deepStrictEqual(yield* kvs.keys, ["a", "b"])
      yield* kvs.clearPrefix("")
      assert.deepStrictEqual(yield* kvs.keys, [])
    })
  },
  {
    title: "keys lists all keys, over several pages, without the prefix and in order",
    run: Effect.gen(function*() {
      const kvs = yield* store
      const keys = count(1100).map((i) => `${i}`.padStart(5, "0"))
      yield* Effect.forEach(keys, (key) => kvs.set(key, key), { concurrency: 200 })
      assert.deepStrictEqual(yield* kvs.keys, keys)
      assert.strictEqual(yield* kvs.size, keys.length)
    })
  },
  {
    title: "modify returns the new value, and leaves a missing key alone",
    run: Effect.gen(function*() {
      const kvs = yield* store
      yield* kvs.set("a", "1")
      assert.strictEqual(yield* kvs.modify("a", (value) => value + "2"), "12")
      assert.strictEqual(yield* kvs.get("a"), "12")
      assert.deepStrictEqual(yield* kvs.modifyUint8Array("a", (value) => value.slice(1)), bytes("2"))
      assert.strictEqual(yield* kvs.get("a"), "2")
      let isCalled = false
      const touch = <A>(value: A) => {
        isCalled = true
        return value
      }
      assert.isUndefined(yield* kvs.modify("missing", touch))
      assert.isUndefined(yield* kvs.modifyUint8Array("missing", touch))
      assert.isFalse(isCalled)
      assert.isFalse(yield* kvs.has("missing"))
    })
  },
  {
    title: "modifies of several clients all count",
    run: Effect.gen(function*() {
      const stores = yield* Effect.forEach(yield* clients(4), (kv) => storeOn(kv))
      yield* stores[0]!.set("count", "0")
      const increment = (kvs: KeyValueStore.KeyValueStore) => kvs.modify("count", (value) => `${Number(value) + 1}`)
      yield* Effect.forEach(
        stores.flatMap((kvs) => count(10).map(() => kvs)),
        increment,
        { concurrency: "unbounded" }
      )
      assert.strictEqual(yield* stores[0]!.get("count"), "40")
    })
  },
  {
    title: "modify keeps the lease of the key",
    run: Effect.gen(function*() {
      const kv = yield* client
      const kvs = yield* storeOn(kv)
      const { id } = yield* on(kv)(Lease.grant({ ttl: "1 minute" }))
      yield* kv.put("kvs/a", "1", { lease: id })
      yield* kvs.modify("a", () => "2")
      assert.deepStrictEqual(Option.getOrThrow(yield* kv.getEntry("kvs/a")).lease, Option.some(id))
    })
  },
  {
    title: "a store without a prefix is refused",
    run: Effect.gen(function*() {
      const kv = yield* client
      for (const prefix of ["", "\ud800"]) {
        const error = yield* Effect.flip(storeOn(kv, prefix))
        assert.strictEqual(error.method, "make")
        assert.match(error.message, /prefix/)
      }
    })
  },
  {
    title: "keys that cannot be stored are rejected by every method, and are named",
    run: Effect.gen(function*() {
      const kvs = yield* store
      yield* kvs.set("a", "1")
      for (const key of ["", "\ud800"]) {
        const attempts: Record<string, Effect.Effect<unknown, KeyValueStore.KeyValueStoreError>> = {
          get: kvs.get(key),
          getUint8Array: kvs.getUint8Array(key),
          set: kvs.set(key, "x"),
          remove: kvs.remove(key),
          has: kvs.has(key),
          modify: kvs.modify(key, () => "x"),
          modifyUint8Array: kvs.modifyUint8Array(key, () => bytes("x"))
        }
        for (const [method, attempt] of Object.entries(attempts)) {
          const error = yield* Effect.flip(attempt)
          assert.deepStrictEqual([error.method, error.key], [method, key])
        }
      }
      assert.deepStrictEqual(yield* kvs.keys, ["a"])
    })
  },
  {
    title: "a failure has the method, the key and the failure of the store, and not the value",
    run: Effect.gen(function*() {
      const kvs = yield* store
      const error = yield* Effect.flip(kvs.set("a", "secret \ud800"))
      assert.deepStrictEqual([error.method, error.key], ["set", "a"])
      assert.isTrue(KvError.isKvError(error.cause))
      assert.notMatch(error.message, /secret/)
    })
  },
  {
    title: "a schema store on it encodes and decodes",
    run: Effect.gen(function*() {
      const users = KeyValueStore.toSchemaStore(
        yield* store,
        Schema.Struct({ name: Schema.String, since: Schema.Date })
      )
      yield* users.set("ada", { name: "Ada", since: new Date(0) })
      yield* users.modify("ada", (user) => ({ ...user, name: "Ada L." }))
      assert.deepStrictEqual(yield* users.get("ada"), Option.some({ name: "Ada L.", since: new Date(0) }))
    })
  }
]
