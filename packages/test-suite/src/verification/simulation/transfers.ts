/**
 * Transfers between accounts, each an atomic change of two keys. Whatever is lost of them, the total must stay the same.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import type { KvError } from "@effect-kv/core/KvError"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type * as Recorder from "../history/Recorder.ts"
import { pause } from "./pause.ts"

const accounts = 3

/** The balance of an account that was not written yet. */
const initial = 100

const balanceOf = (text: Option.Option<string>): number =>
  Option.match(text, { onNone: () => initial, onSome: (text) => Number(text.split(" ")[0]) })

/** Two fibers of a client that transfer between random accounts, each so many times. */
export const work = Effect.fnUntraced(function*(
  recorder: Recorder.Recorder,
  name: string,
  backend: KvBackend,
  prefix: string,
  times: number
): Effect.fn.Return<void, never, Scope.Scope> {
  const kv = yield* Kv.make(recorder.client(name)(backend))
  const transfer = Effect.gen(function*() {
    const first = yield* Random.nextIntBetween(0, accounts - 1)
    const keys = [first, (first + 1) % accounts].map((account) => `${prefix}account/${account}`)
    const amount = yield* Random.nextIntBetween(1, initial)
    yield* kv.atomically(Effect.fnUntraced(function*(t) {
      const [from, to] = [keys[0]!, keys[1]!]
      const available = balanceOf(yield* t.get(from))
      if (available < amount) return
      yield* pause(0, 20)
      // Each written value is unique, as the checkers require.
      yield* t.put(from, `${available - amount} ${yield* recorder.value(name)}`)
      yield* t.put(to, `${balanceOf(yield* t.get(to)) + amount} ${yield* recorder.value(name)}`)
    }))
  })
  const repeatedly = Effect.forEach(
    Array.from({ length: times }),
    () => Effect.andThen(Effect.ignore(transfer), pause(0, 50)),
    { discard: true }
  )
  yield* Effect.all([repeatedly, repeatedly], { concurrency: "unbounded", discard: true })
})

/** The problem with the total; none if it is right. */
export const check = (kv: Kv.Kv, prefix: string): Effect.Effect<ReadonlyArray<string>, KvError> =>
  Effect.map(kv.range(KeyRange.prefix(`${prefix}account/`)), ({ entries }) => {
    const balances = entries.map(({ lossyText }) => balanceOf(Option.some(lossyText)))
    const total = balances.reduce((sum, balance) => sum + balance, (accounts - entries.length) * initial)
    return total === accounts * initial && balances.every((balance) => balance >= 0)
      ? []
      : [`the accounts hold ${balances.join(", ")}: ${total} in all instead of ${accounts * initial}`]
  })
