/**
 * Work with `kv.atomically`: transfers between accounts, which leave the total as it is.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { RecordedClient, Step } from "./Worker.ts"
import { unique } from "./Worker.ts"

const accounts = 4

/** What an account holds before its first transfer. */
export const initial = 100

/** The key of an account. Its value is the balance and a unique part. */
export const accountOf = (prefix: string, i: number): string => `${prefix}account/${i}`

/** The keys of all accounts. */
export const accountsOf = (prefix: string): ReadonlyArray<string> =>
  Array.from({ length: accounts }, (_, i) => accountOf(prefix, i))

/** The balance in an account's value. */
export const balanceOf = (value: string): number => Number(value.split(" ")[0])

/** Moves an amount from one account to another. */
export const transfer: Step = (client, random) => {
  const [from, to] = random.shuffle(accountsOf(client.prefix))
  return move(client, { from: from!, to: to!, amount: random.int(1, 50) }, Effect.sleep(random.int(0, 10)))
}

/** Moves an amount, and runs an effect between the reads and the writes. */
export const move = (
  client: RecordedClient,
  { amount, from, to }: { readonly from: string; readonly to: string; readonly amount: number },
  meanwhile: Effect.Effect<void>
) =>
  client.kv.atomically(Effect.fnUntraced(function*(transaction) {
    const balance = (key: string) =>
      Effect.map(transaction.get(key), Option.match({ onNone: () => initial, onSome: balanceOf }))
    const before = yield* balance(from)
    const other = yield* balance(to)
    yield* meanwhile
    yield* transaction.put(from, `${before - amount} ${yield* unique(client)}`)
    yield* transaction.put(to, `${other + amount} ${yield* unique(client)}`)
  }))
