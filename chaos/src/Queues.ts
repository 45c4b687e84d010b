/**
 * Persisted queues, checked by the store's own history: no item is lost, claimed twice, or completed twice.
 */
import { type Changes, QueueChecker } from "@effect-kv/test-suite/verification"
import * as queues from "./work/queues.ts"

/** What workers broke, as messages. */
export const find = (changes: ReadonlyArray<Changes.Change>, prefix: string): ReadonlyArray<string> =>
  QueueChecker.check(changes, { prefix: queues.queuesOf(prefix) }).violations
    .map(({ kind, message, revision }) => `${kind} at revision ${revision}: the item ${message}`)
