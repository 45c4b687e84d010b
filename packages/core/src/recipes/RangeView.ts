/**
 * An always current view of a range in memory, for configuration and membership: read it without a round trip, and be
 * told when it changes.
 *
 * It keeps itself current by a watch, and recovers by itself when history was compacted while it was cut off: with one
 * consistent read of the whole range, between which and the watch nothing is missed. It shows one revision at a time.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as internals from "../internal/kv/internals.ts"
import type { RangeView, Snapshot } from "../internal/view/model.ts"
import * as internal from "../internal/view/rangeView.ts"
import { Kv } from "../service/Kv.ts"
import type * as KeyRange from "../values/KeyRange.ts"
import type { KvError } from "../values/KvError.ts"

export type {
  /** A view of a range. */
  RangeView,
  /** The entries of a range at one revision, by their keys. */
  Snapshot
}

/** A view of the range, current when this returns, and kept so until the scope closes. */
export const make = (range: KeyRange.KeyRange): Effect.Effect<RangeView, KvError, Kv | Scope.Scope> =>
  Effect.flatMap(Kv, (kv) => {
    const { backend, sessions } = internals.of(kv)
    return sessions.onClock(internal.open(backend, range))
  })
