/**
 * Several keys changed as one: transfers between accounts, which never create or lose money.
 *
 *     node examples/src/Transfers.ts
 *     KV_URL=http://127.0.0.1:2379 node examples/src/Transfers.ts
 */
import { KeyRange, Kv, type KvError, Op } from "@effect-kv/core"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as StoreByUrl from "./StoreByUrl.ts"

const accounts = KeyRange.prefix("accounts/")

const balance = Option.match({ onNone: () => 0, onSome: Number })

/** Moves an amount, if there is enough. Returns whether it did. */
export const transfer = (from: string, to: string, amount: number): Effect.Effect<boolean, KvError.KvError, Kv.Kv> =>
  Kv.atomically(Effect.fnUntraced(function*(t) {
    const available = balance(yield* t.get(`accounts/${from}`))
    if (available < amount) return false
    yield* t.put(`accounts/${from}`, `${available - amount}`)
    yield* t.put(`accounts/${to}`, `${balance(yield* t.get(`accounts/${to}`)) + amount}`)
    return true
  }))

/** The money in all accounts. */
export const total: Effect.Effect<number, KvError.KvError, Kv.Kv> = Effect.map(
  Kv.range(accounts),
  ({ entries }) => entries.reduce((sum, { lossyText }) => sum + Number(lossyText), 0)
)

export const program = Effect.gen(function*() {
  const names = ["ada", "bert", "carl"]
  yield* Kv.txn({ then: names.map((name) => Op.put(`accounts/${name}`, "100")) })
  const made = yield* Effect.forEach(
    Array.from({ length: 30 }, (_, i) => i),
    (i) => transfer(names[i % 3]!, names[(i + 1) % 3]!, 10 * (i % 7)),
    { concurrency: "unbounded" }
  )
  yield* Console.log(`transfers: ${made.length}`)
  yield* Console.log(`total: ${yield* total}`)
})

if (process.argv[1] === import.meta.filename) {
  NodeRuntime.runMain(
    program.pipe(
      Effect.provide(Kv.layerPrefixed("examples/transfers/")),
      Effect.provide(StoreByUrl.layer)
    )
  )
}
