/**
 * History is bounded, whatever is written.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as KeyRange from "@effect-kv/core/KeyRange"
import { execute, type KvBackend } from "@effect-kv/core/KvBackend"
import * as Op from "@effect-kv/core/Op"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { Mvcc } from "../src/internal/mvcc.ts"

const open = Effect.fnUntraced(function*(options?: MemoryStore.Options) {
  const store = yield* MemoryStore.make(options)
  return { store, backend: yield* store.connect }
})

const repeat = Effect.fnUntraced(function*(times: number, f: (i: number) => ReturnType<KvBackend["execute"]>) {
  for (let i = 0; i < times; i++) yield* f(i)
})

describe("history", () => {
  it.effect("does not grow while keys are overwritten indefinitely", () =>
    Effect.gen(function*() {
      const { backend, store } = yield* open({ history: { revisions: 100 } })
      yield* repeat(10_000, (i) => backend.execute(Op.put(`key${i % 7}`, `value ${i}`)))
      const statistics = yield* store.statistics
      assert.strictEqual(statistics.keys, 7)
      assert.strictEqual(statistics.revision, 10_001n)
      assert.strictEqual(statistics.compactRevision, 9_901n)
      assert.strictEqual(statistics.historyWrites, 101)
    }))

  it.effect("does not grow while keys are created and deleted indefinitely", () =>
    Effect.gen(function*() {
      const { backend, store } = yield* open({ history: { revisions: 100 } })
      yield* repeat(5_000, (i) => backend.execute(Op.put(`key${i}`, "value")))
      yield* backend.execute(Op.deleteRange(KeyRange.all))
      yield* repeat(200, (i) => backend.execute(Op.put("other", `${i}`)))
      const statistics = yield* store.statistics
      assert.strictEqual(statistics.keys, 1)
      assert.strictEqual(statistics.historyWrites, 101)
      assert.isBelow(statistics.historyBytes, 50_000)
    }))

  it.effect("does not grow by the bytes of large values", () =>
    Effect.gen(function*() {
      const { backend, store } = yield* open({ history: { bytes: 1_000_000 } })
      yield* repeat(1_000, (i) => backend.execute(Op.put(`key${i % 3}`, new Uint8Array(100_000))))
      const statistics = yield* store.statistics
      assert.isAtMost(statistics.historyBytes, 1_000_000)
      assert.isAtLeast(statistics.historyWrites, 9)
    }))

  it.effect("does not grow by transactions of many small writes", () =>
    Effect.gen(function*() {
      const { backend, store } = yield* open({ history: { bytes: 100_000 } })
      const puts = Array.from({ length: 128 }, (_, i) => Op.put(`key${i}`, ""))
      yield* repeat(1_000, () => backend.execute(Op.txn({ then: puts })))
      const statistics = yield* store.statistics
      assert.isAtMost(statistics.historyBytes, 100_000)
      assert.isAtLeast(statistics.historyWrites, 128)
    }))

  it.effect("always keeps the last revision, even if it alone exceeds the limit", () =>
    Effect.gen(function*() {
      const { backend, store } = yield* open({ history: { bytes: 1 } })
      yield* repeat(3, (i) => backend.execute(Op.put("key", `${i}`)))
      const { compactRevision, historyWrites } = yield* store.statistics
      assert.deepStrictEqual([compactRevision, historyWrites], [4n, 1])
      const response = yield* execute(backend, Op.get("key", { revision: 4n }))
      assert.strictEqual(response.entries[0]?.lossyText, "2")
    }))

  it("forgets keys that are gone and versions that are replaced", () => {
    const mvcc = new Mvcc({ revisions: 10, bytes: 1_000_000 })
    for (let i = 0; i < 100; i++) {
      mvcc.put(`key${i}`, "value", 0n)
      mvcc.commit()
      mvcc.delete(mvcc.get(`key${i}`, undefined)!.slot)
      mvcc.commit()
    }
    assert.strictEqual(mvcc.size, 0)
    assert.strictEqual(mvcc.known, 5, "the keys of the last ten revisions")
    mvcc.compact(mvcc.revision)
    assert.strictEqual(mvcc.known, 0)
  })

  it.effect("a paged read at one revision is complete even if other writes continue", () =>
    Effect.gen(function*() {
      const { backend } = yield* open()
      yield* repeat(100, (i) => backend.execute(Op.put(`a${String(i).padStart(3, "0")}`, "1")))
      const { revision } = yield* backend.execute(Op.get("a000"))
      yield* repeat(50, (i) => backend.execute(Op.delete(`a${String(i * 2).padStart(3, "0")}`)))
      yield* repeat(50, (i) => backend.execute(Op.put(`a${String(i).padStart(3, "0")}+`, "new")))
      let range: KeyRange.KeyRange | undefined = KeyRange.prefix("a")
      const keys: Array<string> = []
      while (range !== undefined) {
        const page: Op.RangeResponse = yield* execute(backend, Op.range(range, { revision, limit: 7 }))
        assert.strictEqual(page.count, 100 - keys.length)
        keys.push(...page.entries.map((entry) => entry.key))
        range = page.more ? KeyRange.after(range, keys.at(-1)!) : undefined
      }
      assert.deepStrictEqual(keys, Array.from({ length: 100 }, (_, i) => `a${String(i).padStart(3, "0")}`))
    }))
})

describe("limits", () => {
  const reasonOf = <A>(exit: Exit.Exit<A, { readonly reason: { readonly _tag: string } }>): string =>
    Exit.isFailure(exit)
      ? Cause.findErrorOption(exit.cause).pipe((o) => o._tag === "Some" ? o.value.reason._tag : "?")
      : "Success"

  it.effect("maxRequestBytes limits the UTF-8 bytes of all keys and values of a write", () =>
    Effect.gen(function*() {
      const { backend } = yield* open({ maxRequestBytes: 100 })
      const reason = (op: Op.Op) => Effect.map(Effect.exit(backend.execute(op)), reasonOf)
      assert.strictEqual(yield* reason(Op.put("k", "v".repeat(99))), "Success")
      assert.strictEqual(yield* reason(Op.put("k", "v".repeat(100))), "RequestTooLarge")
      assert.strictEqual(yield* reason(Op.put("k", "\u00e9".repeat(50))), "RequestTooLarge")
      assert.strictEqual(yield* reason(Op.put("k", new Uint8Array(100))), "RequestTooLarge")
      assert.strictEqual(yield* reason(Op.delete("k".repeat(101))), "RequestTooLarge")
      assert.strictEqual(
        yield* reason(Op.txn({ if: [Compare.value("k", "=", "v".repeat(60))], then: [Op.put("k", "v".repeat(60))] })),
        "RequestTooLarge"
      )
      assert.strictEqual(yield* reason(Op.get("k".repeat(101))), "Success", "a read may be larger")
      assert.strictEqual(yield* reason(Op.get("k".repeat(600_000))), "RequestTooLarge")
    }))

  it.effect("maxTxnOps limits the operations of a transaction", () =>
    Effect.gen(function*() {
      const { backend } = yield* open({ maxTxnOps: 2 })
      const gets = (n: number) => Op.txn({ then: Array.from({ length: n }, () => Op.get("k")) })
      assert.strictEqual(reasonOf(yield* Effect.exit(backend.execute(gets(2)))), "Success")
      assert.strictEqual(reasonOf(yield* Effect.exit(backend.execute(gets(3)))), "InvalidRequest")
    }))

  it.effect("an invalid limit is a defect of the program", () =>
    Effect.gen(function*() {
      for (const options of [{ maxTxnOps: 0 }, { history: { revisions: Number.NaN } }, { minLeaseTtl: 0 }]) {
        assert.isTrue(Exit.hasDies(yield* Effect.exit(MemoryStore.make(options))))
      }
    }))
})
