/**
 * Helpers to read watches: all events up to a revision, and their short text form.
 */
import type * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import type * as Watch from "@effect-kv/core/Watch"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { promptly } from "./Case.ts"

/** Opens a watch that is closed when the case ends. */
export const watch = (
  kv: Kv.Kv,
  range: KeyRange.KeyRange,
  options?: Omit<Watch.WatchRequest, "range">
): Effect.Effect<Watch.Watcher, KvError, Scope.Scope> =>
  promptly("the watch", backendOf(kv).watch({ range, ...options }))

/** All batches up to the revision, which must have an event. Asserts that revisions ascend, each only once. */
export const batchesUpTo = Effect.fnUntraced(function*(watcher: Watch.Watcher, revision: bigint) {
  const batches: Array<Watch.Revision> = []
  let last = watcher.revision
  while (last < revision) {
    for (const batch of yield* promptly(`revision ${revision} after ${last}`, watcher.take)) {
      assert.isTrue(batch.revision > last, `revision ${batch.revision} came after ${last}`)
      assert.isTrue(
        batch.events.every((event) => event.revision === batch.revision),
        "all events of a batch have its revision"
      )
      last = batch.revision
      batches.push(batch)
    }
  }
  assert.strictEqual(last, revision)
  return batches
})

/** All events up to the revision. */
export const eventsUpTo = (
  watcher: Watch.Watcher,
  revision: bigint
): Effect.Effect<ReadonlyArray<Watch.Event>, KvError> =>
  Effect.map(batchesUpTo(watcher, revision), (batches) => batches.flatMap((batch) => batch.events))

/** An event as text: `put a=1 new`, `put a=2 was 1`, `delete a was 2`. */
export const words = (event: Watch.Event): string => {
  const previous = Option.match(event.previous, { onNone: () => "", onSome: (entry) => ` was ${entry.lossyText}` })
  return event._tag === "Put"
    ? `put ${event.key}=${event.entry.lossyText}${event.isCreate ? " new" : ""}${previous}`
    : `delete ${event.key}${previous}`
}

/** The events up to the revision, as text. */
export const wordsUpTo = (
  watcher: Watch.Watcher,
  revision: bigint
): Effect.Effect<ReadonlyArray<string>, KvError> =>
  Effect.map(eventsUpTo(watcher, revision), (events) => events.map(words))
