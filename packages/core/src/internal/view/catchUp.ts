/**
 * The state of a range in the store, compared with a view that follows it: whether the view has missed nothing up to
 * that state. One small read, whatever the size of the range.
 */
import * as Effect from "effect/Effect"
import { execute, type KvBackend } from "../../backend/KvBackend.ts"
import type * as KeyRange from "../../values/KeyRange.ts"
import type * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import * as deletion from "../session/awaitDeletion.ts"

/** The state of the range at a revision of the store. */
export interface Target {
  readonly revision: bigint
  /** The newest write to a key that exists at that revision; 0 if there is no key. */
  readonly newestWrite: bigint
  readonly count: number
}

/** The present state of the range. Read again while the store cannot be reached. */
export const targetOf = (backend: KvBackend, range: KeyRange.KeyRange): Effect.Effect<Target> =>
  execute(backend, Op.range(range, { order: { by: "modRevision", direction: "descending" }, limit: 1, keysOnly: true }))
    .pipe(
      Effect.map(({ count, entries: [newest], revision }): Target => ({
        revision,
        newestWrite: newest?.modRevision ?? 0n,
        count
      })),
      Effect.catch((error): Effect.Effect<Target> =>
        isPassing(error) ? Effect.delay(targetOf(backend, range), deletion.retryInterval) : Effect.never
      )
    )

/** Whether the same read may succeed later. If it may not, the watch's own failure ends the view. */
const isPassing = (error: KvError.KvError): boolean => error.isRetryable || error.reason._tag === "Unauthenticated"

/**
 * Whether the view contains every change up to the target's revision.
 *
 * A view of an older revision does if the store's keys were all written at or before the view's revision, and are as
 * many as the view's: then each is in the view as it is in the store, and the view has no other.
 */
export const isReached = (
  view: { readonly revision: bigint; readonly entries: ReadonlyMap<string, unknown> },
  target: Target
): boolean =>
  view.revision >= target.revision ||
  view.revision >= target.newestWrite && view.entries.size === target.count
