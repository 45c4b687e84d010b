/**
 * Puts the methods of a `Kv` together.
 */
import type { Kv } from "../Kv.ts"
import type { KvBackend } from "../KvBackend.ts"
import * as data from "./data.ts"
import { described } from "./described.ts"
import * as modifying from "./modifying.ts"
import * as temporaryKey from "./temporaryKey.ts"
import * as watching from "./watching.ts"

/** What one `Kv` shares with another that is the same store seen another way. */
export type Shared = Pick<Kv, "bookkeeping" | "sessions">

export const make = (plain: KvBackend, shared: Shared): Kv => {
  const backend = described(plain)
  const bookkeeping = described(shared.bookkeeping)
  const { sessions } = shared
  return {
    "~@effect-kv/core/Kv": "~@effect-kv/core/Kv",
    backend,
    bookkeeping,
    sessions,
    ...data.make(backend, modifying.turnsOf(sessions)),
    ...watching.make(backend),
    tempKey: (key, options) => temporaryKey.open(bookkeeping, sessions, key, options)
  }
}
