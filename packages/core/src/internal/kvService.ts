/**
 * Puts the methods of a `Kv` together.
 */
import type { Kv } from "../Kv.ts"
import type { KvBackend } from "../KvBackend.ts"
import * as data from "./data.ts"
import * as temporaryKey from "./temporaryKey.ts"
import * as watching from "./watching.ts"

/** What one `Kv` shares with another that is the same store seen another way. */
export type Shared = Pick<Kv, "bookkeeping" | "sessions">

export const make = (backend: KvBackend, shared: Shared): Kv => ({
  "~@effect-kv/core/Kv": "~@effect-kv/core/Kv",
  backend,
  bookkeeping: shared.bookkeeping,
  sessions: shared.sessions,
  ...data.make(backend),
  ...watching.make(backend),
  tempKey: (key, options) =>
    temporaryKey.open(
      { make: shared.bookkeeping, bookkeeping: shared.bookkeeping },
      shared.sessions,
      key,
      options
    )
})
