/**
 * Several clients of one store: each sees the writes of the others at once.
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
    entry: Option.map(yield* Kv.getEntry("app/d"), (entry) => entry.lossyText),
    range: keysOf(yield* Kv.range(KeyRange.prefix("app/"))),
    count: yield* Kv.count(KeyRange.all),
    streamed: streamed.map((entry) => entry.key)
  }
})

export const cases = chapter("clients", [
  test("a client reads at once what another client has written", function*(kv) {
    const other = yield* newClient
    for (let i = 0; i < 20; i++) {
      const { revision } = yield* kv.put("k", `${i}`)
      assert.strictEqual(yield* textOf(other, "k"), `${i}`)
      assert.strictEqual(yield* revisionOf(other), revision)
    }
    yield* other.delete("k")
    assert.strictEqual(yield* textOf(kv, "k"), undefined)
  }),

  test("all clients see the revisions of one store", function*(kv) {
    const clients = [kv, yield* newClient, yield* newClient]
    const before = yield* revisionOf(kv)
    const revisions = yield* Effect.forEach(
      Array.from({ length: 90 }, (_, i) => i),
      (i) => Effect.map(clients[i % 3]!.put(`k/${i}`, "v"), (response) => response.revision),
      { concurrency: "unbounded" }
    )
    const distinct = [...new Set(revisions)].toSorted((a, b) => Number(a - b))
    assert.deepStrictEqual(distinct, distinct.map((_, i) => before + BigInt(i) + 1n), "every revision has a write")
    const owners = new Map(revisions.map((revision, i) => [revision, i % 3]))
    assert.isTrue(revisions.every((revision, i) => owners.get(revision) === i % 3), "no two clients share a revision")
  }),

  test("closing one client affects neither other clients nor the store", function*(kv) {
    const scope = yield* Scope.make()
    const other = yield* Scope.provide(newClient, scope)
    yield* other.put("k", "v")
    yield* Scope.close(scope, Exit.void)
    assert.strictEqual(yield* textOf(kv, "k"), "v")
    yield* kv.put("k", "w")
    assert.strictEqual(yield* textOf(yield* newClient, "k"), "w")
  }),

  test("a program can take Kv from its environment", function*(kv) {
    assert.deepStrictEqual(yield* Effect.provideService(application, Kv.Kv, kv), {
      get: "3",
      entry: Option.some("5"),
      range: ["app/a", "app/c", "app/d"],
      count: 3,
      streamed: ["app/a", "app/c", "app/d"]
    })
  }),

  test("a function from backend to backend applies to every call of a client", function*(kv) {
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
