/**
 * A current copy of a range in memory, for configuration and membership: reads need no round trip, and changes are a
 * stream.
 *
 * A watch keeps the view current. If history was compacted while the watch was cut off, the view reads the whole range
 * again and continues from that revision, without a gap. It always shows one revision.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as internals from "../internal/kv/internals.ts"
import type { RangeView, Snapshot } from "../internal/view/model.ts"
import * as internal from "../internal/view/rangeView.ts"
import { Kv } from "../service/Kv.ts"
import type * as KeyRange from "../values/KeyRange.ts"
import type { KvError } from "../values/KvError.ts"

export type { RangeView, Snapshot }

/**
 * Makes a view of the range. It is current when this returns, and stays current until the scope closes.
 *
 * @example
 * ```ts
 * import { KeyRange, Kv, RangeView } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("config/limit", "10")
 *   const view = yield* RangeView.make(KeyRange.prefix("config/"))
 *   const { entries } = yield* view.snapshot
 *   const keys = [...entries.keys()] // => ["config/limit"]
 *
 *   yield* Kv.put("config/mode", "fast")
 *   const later = yield* view.waitUntil(({ entries }) => entries.has("config/mode"))
 *   later.entries.size // => 2
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const make = (range: KeyRange.KeyRange): Effect.Effect<RangeView, KvError, Kv | Scope.Scope> =>
  Effect.flatMap(Kv, (kv) => {
    const { backend, sessions } = internals.of(kv)
    return sessions.onClock(internal.open(backend, range))
  })
