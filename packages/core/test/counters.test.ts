/**
 * Counters and transactions under lost requests, lost responses and requests that arrive late.
 */
import * as Counter from "@effect-kv/core/Counter"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as Sequence from "@effect-kv/core/Sequence"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { lossy, randomOf } from "./lossy.ts"

const on = (kv: Kv.Kv) => Effect.provideService(Kv.Kv, kv)

const clientOf = (store: MemoryStore.MemoryStore) => Effect.flatMap(store.connect, Kv.make)

const count = (n: number) => Array.from({ length: n }, (_, i) => i)

const settled = Effect.forEach(count(300), () => Effect.yieldNow, { discard: true })

describe("under lost requests and responses", () => {
  it.live(
    "64 participants who add 100 times each are summed exactly, with a bounded number of attempts",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const store = yield* MemoryStore.make()
        const direct = yield* clientOf(store)
        const seen = { writes: 0 }
        const clients = yield* Effect.forEach(count(8), (i) => Effect.map(clientOf(store), (kv) => lossy(kv, i, seen)))
        const counters = yield* Effect.forEach(
          count(64),
          (i) => on(clients[i % 8]!)(Counter.make("c")).pipe(Effect.retry({ times: 5 }))
        )
        seen.writes = 0
        yield* Effect.forEach(
          counters,
          ({ add }) => Effect.forEach(count(100), () => add(1), { discard: true }),
          { concurrency: "unbounded", discard: true }
        )
        yield* settled
        assert.strictEqual(yield* on(direct)(Counter.get("c")), 6400n)
        assert.isBelow(seen.writes, 6400 * 1.3)
      })),
    60_000
  )

  it.live(
    "transfers create and lose nothing, whatever is known of their outcome",
    () =>
      Effect.forEach(count(20), (seed) =>
        Effect.scoped(Effect.gen(function*() {
          const store = yield* MemoryStore.make()
          const direct = yield* clientOf(store)
          const accounts = count(4).map((i) => `a/${i}`)
          for (const account of accounts) yield* direct.put(account, "100")
          const clients = yield* Effect.forEach(
            count(3),
            (i) => Effect.map(clientOf(store), (kv) => lossy(kv, seed * 10 + i, { writes: 0 }))
          )
          const random = randomOf(seed)
          const transfer = (kv: Kv.Kv, from: string, to: string, amount: number) =>
            kv.atomically(Effect.fnUntraced(function*(t) {
              const balance = (key: string) => Effect.map(t.get(key), Option.match({ onNone: () => 0, onSome: Number }))
              if ((yield* balance(from)) < amount) return
              yield* t.put(from, `${(yield* balance(from)) - amount}`)
              yield* t.put(to, `${(yield* balance(to)) + amount}`)
            }))
          yield* Effect.forEach(
            count(60),
            (i) =>
              Effect.ignore(transfer(
                clients[i % 3]!,
                accounts[Math.floor(random() * 4)]!,
                accounts[Math.floor(random() * 4)]!,
                Math.floor(random() * 50)
              )),
            { concurrency: "unbounded" }
          )
          yield* settled
          const { entries } = yield* direct.range(KeyRange.prefix("a/"))
          const balances = entries.map(({ lossyText }) => Number(lossyText))
          assert.strictEqual(balances.reduce((sum, balance) => sum + balance, 0), 400, `seed ${seed}`)
          assert.isTrue(balances.every((balance) => balance >= 0), `seed ${seed}`)
        })), { discard: true }),
    60_000
  )

  it.live("no number of a dense sequence is given twice", () =>
    Effect.scoped(Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const numbers = yield* Effect.forEach(count(6), (i) =>
        Effect.gen(function*() {
          const kv = lossy(yield* clientOf(store), i, { writes: 0 })
          const ids = yield* on(kv)(Sequence.dense("n", { block: 3 }))
          return yield* Effect.forEach(count(50), () => Effect.option(ids.next), { concurrency: 5 })
        }), { concurrency: "unbounded" })
      const given = numbers.flat().filter(Option.isSome).map(({ value }) => value)
      assert.strictEqual(new Set(given).size, given.length)
      assert.isAbove(given.length, 290)
    })), 60_000)
})
