/**
 * Several clients of one store: each sees at once what another has done.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as Op from "@effect-kv/core/Op"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { chapter, newClient, revisionOf, test } from "./Case.ts"
import { keysOf, textOf } from "./entries.ts"

/** A program that takes `Kv` from its environment, as applications do. */
const application = Effect.gen(function*() {
  const put = yield* Kv.put("app/a", "1")
  yield* Kv.testAndSet("app/b", Option.none(), "2")
  yield* Kv.compareAndSet("app/a", put.revision, "3")
  yield* Kv.modify("app/c", () => "4")
  yield* Kv.txn({ if: [Compare.exists("app/c")], then: [Op.put("app/d", "5")] })
  yield* Kv.delete("app/b")
  const streamed = yield* Stream.runCollect(Kv.rangeStream(KeyRange.prefix("app/"), { pageSize: 2 }))
  return {
    get: Option.getOrUndefined(yield* Kv.get("app/a")),
    entry: Option.map(yield* Kv.getEntry("app/d"), (entry) => entry.text),
    range: keysOf(yield* Kv.range(KeyRange.prefix("app/"))),
    count: yield* Kv.count(KeyRange.all),
    streamed: streamed.map((entry) => entry.key)
  }
})

export const cases = chapter("clients", [
  test("what one client wrote another reads at once", function*(kv) {
    const other = yield* newClient
    for (let i = 0; i < 20; i++) {
      const { revision } = yield* kv.put("k", `${i}`)
      assert.strictEqual(yield* textOf(other, "k"), `${i}`)
      assert.strictEqual(yield* revisionOf(other), revision)
    }
    yield* other.delete("k")
    assert.strictEqual(yield* textOf(kv, "k"), undefined)
  }),

  test("the revisions of all clients are of one store", function*(kv) {
    const clients = [kv, yield* newClient, yield* newClient]
    const before = yield* revisionOf(kv)
    const revisions = yield* Effect.forEach(
      Array.from({ length: 90 }, (_, i) => i),
      (i) => Effect.map(clients[i % 3]!.put(`k/${i}`, "v"), (response) => response.revision),
      { concurrency: "unbounded" }
    )
    const distinct = [...new Set(revisions)].toSorted((a, b) => Number(a - b))
    assert.deepStrictEqual(distinct, distinct.map((_, i) => before + BigInt(i) + 1n), "none is left out")
    const owners = new Map(revisions.map((revision, i) => [revision, i % 3]))
    assert.isTrue(revisions.every((revision, i) => owners.get(revision) === i % 3), "clients share none")
  }),

  test("the end of one client is nothing to another, nor to the store", function*(kv) {
    const scope = yield* Scope.make()
    const other = yield* Scope.provide(newClient, scope)
    yield* other.put("k", "v")
    yield* Scope.close(scope, Exit.void)
    assert.strictEqual(yield* textOf(kv, "k"), "v")
    yield* kv.put("k", "w")
    assert.strictEqual(yield* textOf(yield* newClient, "k"), "w")
  }),

  test("an application takes Kv from its environment", function*(kv) {
    assert.deepStrictEqual(yield* Effect.provideService(application, Kv.Kv, kv), {
      get: "3",
      entry: Option.some("5"),
      range: ["app/a", "app/c", "app/d"],
      count: 3,
      streamed: ["app/a", "app/c", "app/d"]
    })
  }),

  test("everything goes through the backend, and a function of backends applies to all of it", function*(kv) {
    const seen: Array<string> = []
    const counted = Kv.mapBackend(kv, (backend) => ({
      ...backend,
      execute: (op) => {
        seen.push(op._tag)
        return backend.execute(op)
      }
    }))
    yield* Effect.provideService(application, Kv.Kv, counted)
    assert.strictEqual(yield* textOf(kv, "app/a"), "3")
    assert.deepStrictEqual([...new Set(seen)].toSorted(), ["Delete", "Put", "Range", "Txn"])
    assert.isAtLeast(seen.length, 12)
  })
])
