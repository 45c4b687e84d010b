/**
 * The history of queues, read from the store itself, and what its checker says.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import { Changes, QueueChecker } from "@effect-kv/test-suite/verification"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"

/** What became of all items under the prefix, from the store's first revision up to now. */
export const report = Effect.fnUntraced(function*(
  kv: Kv.Kv,
  prefix: string
): Effect.fn.Return<QueueChecker.Report, KvError> {
  const { revision } = yield* kv.put(`${prefix}end-of-history`, "")
  const revisions = yield* kv.watchRevisions(KeyRange.prefix(prefix), { startRevision: 2n }).pipe(
    Stream.takeUntil((one) => one.revision >= revision),
    Stream.runCollect
  )
  const events = revisions.flatMap(({ events }) =>
    events.map((event) =>
      event._tag === "Delete" ? { _tag: "Delete" as const, key: event.key, revision: event.revision } : {
        _tag: "Put" as const,
        key: event.key,
        revision: event.revision,
        isCreate: event.isCreate,
        entry: {
          ...event.entry,
          value: event.entry.lossyText,
          lease: Option.getOrElse(event.entry.lease, () => 0n)
        }
      }
    )
  )
  return QueueChecker.check(Changes.fromBatches([{ events }]), { prefix })
})

/** Fails the test if the checker finds a violation. */
export const checked = Effect.fnUntraced(function*(kv: Kv.Kv, prefix: string) {
  const found = yield* report(kv, prefix)
  assert.deepStrictEqual(found.violations, [])
  return found
})
