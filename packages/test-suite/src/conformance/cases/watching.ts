/**
 * The content of watch streams and views in a comparable form.
 */
import type * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import type * as RangeView from "@effect-kv/core/RangeView"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { promptly } from "./Case.ts"
import { words } from "./watchers.ts"

/** The first `n` events of a stream, as text. */
export const firstWords = (n: number, events: Kv.Subscription["events"]) =>
  promptly(`${n} events`, Effect.map(Stream.runCollect(Stream.take(events, n)), (taken) => taken.map(words)))

/** Waits until a view has the expected entries. */
export const viewBecomes = (
  view: RangeView.RangeView,
  expected: Record<string, string>
): Effect.Effect<void, KvError> =>
  promptly(
    `a view of ${JSON.stringify(expected)}`,
    view.changes.pipe(
      Stream.map((snapshot) => Object.fromEntries([...snapshot.entries].map(([key, entry]) => [key, entry.lossyText]))),
      Stream.takeUntil((seen) => JSON.stringify(sorted(seen)) === JSON.stringify(sorted(expected))),
      Stream.runDrain
    )
  )

export const sorted = (record: Record<string, string>) => Object.entries(record).toSorted(([a], [b]) => a < b ? -1 : 1)

export const zip = (keys: ReadonlyArray<string>, texts: ReadonlyArray<string>): ReadonlyArray<[string, string]> =>
  keys.map((key, i) => [key, texts[i]!])
