/**
 * The store against a model that keeps a full copy of every revision.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import type * as KvError from "@effect-kv/core/KvError"
import type * as Op from "@effect-kv/core/Op"
import type * as Watch from "@effect-kv/core/Watch"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { either, integer, op, range } from "./arbitraries.ts"
import { type Change, Model, toComparable, toRow } from "./model.ts"

type Command =
  | { readonly _tag: "Execute"; readonly op: Op.Op }
  | { readonly _tag: "Compact"; readonly back: number }
  | { readonly _tag: "Watch"; readonly range: KeyRange.KeyRange; readonly back: number }

const execute = Arbitrary.map(op, (op): Command => ({ _tag: "Execute", op }))
const compact = Arbitrary.map(integer(-1, 8), (back): Command => ({ _tag: "Compact", back }))
const watch = Arbitrary.map(
  Arbitrary.all([range, integer(-3, 8)]),
  ([range, back]): Command => ({ _tag: "Watch", range, back })
)
const program = Arbitrary.array(either(execute, execute, execute, execute, execute, execute, watch, compact), {
  maxLength: 60
})

const run = <A>(effect: Effect.Effect<A, KvError.KvError>): Effect.Effect<A | string> =>
  Effect.map(Effect.result(effect), (result) => Result.isFailure(result) ? result.failure.reason._tag : result.success)

describe("the store and the model agree", () => {
  it.effect.prop("on every response, at every revision", [program], ([commands]) =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const backend = yield* store.connect
      const model = new Model()
      for (const command of commands) {
        if (command._tag === "Execute") yield* executeOnBoth(backend, model, command.op)
        if (command._tag === "Compact") {
          const revision = model.revision - BigInt(command.back)
          assert.strictEqual(yield* run(store.compact(revision)), model.compact(revision))
        }
        assert.strictEqual(yield* store.revision, model.revision)
      }
    }), { arbitrary: { runs: 1500, size: 200 }, timeout: 120_000 })

  it.effect.prop(
    "on every response, while history is compacted automatically",
    [program],
    ([commands]) =>
      Effect.gen(function*() {
        const store = yield* MemoryStore.make({ history: { revisions: 3 } })
        const backend = yield* store.connect
        const model = new Model()
        for (const command of commands) {
          if (command._tag !== "Execute") continue
          yield* executeOnBoth(backend, model, command.op)
          model.compact(model.revision - 3n)
        }
        const { compactRevision, historyWrites } = yield* store.statistics
        assert.strictEqual(compactRevision, model.compacted)
        assert.strictEqual(historyWrites, model.watch(KeyRange.all, model.compacted).length)
      }),
    { arbitrary: { runs: 600, size: 200 }, timeout: 120_000 }
  )

  it.effect.prop(
    "on the events that watches deliver, live and replayed",
    [program],
    ([commands]) =>
      Effect.gen(function*() {
        const store = yield* MemoryStore.make()
        const backend = yield* store.connect
        const model = new Model()
        const watches: Array<{ watcher: Watch.Watcher; range: KeyRange.KeyRange; start: bigint }> = []
        for (const command of commands) {
          if (command._tag === "Execute") yield* executeOnBoth(backend, model, command.op)
          if (command._tag === "Watch" && KeyRange.invalid(command.range) === undefined) {
            const start = BigInt(Math.max(1, Number(model.revision) - command.back))
            const watcher = yield* backend.watch({ range: command.range, startRevision: start, previous: true })
            watches.push({ watcher, range: command.range, start })
          }
        }
        for (const { range, start, watcher } of watches) {
          const expected = model.watch(range, start)
          const batches: Array<Watch.Revision> = []
          while (batches.flatMap((batch) => batch.events).length < expected.length) batches.push(...yield* watcher.take)
          assert.deepStrictEqual(batches.flatMap(toChanges), expected)
          assert.isTrue(batches.every((batch, i) => i === 0 || batches[i - 1]!.revision < batch.revision))
        }
      }),
    { arbitrary: { runs: 600, size: 200 }, timeout: 120_000 }
  )
})

const executeOnBoth = Effect.fnUntraced(function*(backend: KvBackend, model: Model, op: Op.Op) {
  const response = yield* run(Effect.map(backend.execute(op), toComparable))
  assert.deepStrictEqual(response, model.execute(op))
})

const toChanges = (batch: Watch.Revision): Array<Change> =>
  batch.events.map((event) => {
    assert.strictEqual(event.revision, batch.revision)
    const row = event._tag === "Put" ? toRow(event.entry) : undefined
    if (event._tag === "Put") assert.strictEqual(event.isCreate, row?.version === 1)
    const previous = Option.getOrUndefined(Option.map(event.previous, toRow))
    return { revision: event.revision, key: event.key, row, previous }
  })
