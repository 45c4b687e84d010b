/**
 * Puts the methods of a `Kv` together.
 */
import type { Kv } from "../Kv.ts"
import type { KvBackend } from "../KvBackend.ts"
import * as data from "./data.ts"
import * as modifying from "./modifying.ts"
import * as temporaryKey from "./temporaryKey.ts"
import * as watching from "./watching.ts"

/** What one `Kv` shares with another that is the same store seen another way. */
export type Shared = Pick<Kv, "bookkeeping" | "sessions">

export const make = (backend: KvBackend, { bookkeeping, sessions }: Shared): Kv => {
  const watches = watching.make(backend)
  return {
    "~@effect-kv/core/Kv": "~@effect-kv/core/Kv",
    backend,
    bookkeeping,
    sessions,
    ...data.make(backend, modifying.turnsOf(sessions)),
    ...watches,
    latest: (range) => sessions.onClock(watches.latest(range)),
    tempKey: (key, options) =>
      sessions.onClock(temporaryKey.open({ make: bookkeeping, bookkeeping }, sessions, key, options))
  }
}
