/**
 * The watch of a temporary key in the store: it notes the values that are written to the key, and finds its loss.
 */
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import { execute } from "../../backend/KvBackend.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import type * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import * as deletion from "../session/awaitDeletion.ts"
import { deletedReason, type Held, isOn, type Kept, type Loss, note, takenBy } from "./keptKey.ts"

/** Waits until the key is no longer ours, and notes the values that are written to it until then. */
export const untilLost = (kept: Kept, held: Held): Effect.Effect<Loss> =>
  Effect.raceFirst(
    Effect.map(held.session.lostReason, (reason): Loss => ({ _tag: "Lost", reason })),
    follow(kept, held, held.revision)
  )

const follow = (kept: Kept, held: Held, revision: bigint): Effect.Effect<Loss> =>
  lossAfter(kept, held, revision).pipe(
    Effect.catch((error) => {
      // The session's loss says whether the client was closed.
      if (error.reason._tag === "Closed") return Effect.never
      if (error.reason._tag === "StoreReplaced") held.isReplaced = true
      const interval = deletion.isPassing(error) ? deletion.retryInterval : rejectedInterval
      return Effect.delay(readAndFollow(kept, held), interval)
    })
  )

/** Reads the key, because events may have been missed, and follows it from that revision. */
const readAndFollow = (kept: Kept, held: Held): Effect.Effect<Loss> =>
  execute(kept.backends.unfenced, Op.get(kept.key)).pipe(
    Effect.flatMap((response) => {
      const entry = response.entries[0]
      if (entry === undefined) return Effect.succeed<Loss>(deleted)
      if (!isOn(entry, held.session.lease)) return Effect.succeed<Loss>(takenBy(entry, response.revision))
      note(kept, held, entry.modRevision, entry.value)
      return follow(kept, held, response.revision)
    }),
    Effect.catch((error) =>
      error.reason._tag === "Closed"
        ? Effect.never
        : Effect.delay(readAndFollow(kept, held), deletion.isPassing(error) ? deletion.retryInterval : rejectedInterval)
    )
  )

const deleted: Loss = { _tag: "Lost", reason: deletedReason }

/** Pause before a rejected request is repeated: the token or the permission may be restored. */
const rejectedInterval = "2 seconds"

const lossAfter = (kept: Kept, held: Held, revision: bigint): Effect.Effect<Loss, KvError.KvError> =>
  Effect.scopedWith(Effect.fnUntraced(function*(scope) {
    const request = { range: KeyRange.key(kept.key), startRevision: revision + 1n }
    const watcher = yield* Scope.provide(kept.backends.unfenced.watch(request), scope)
    while (true) {
      for (const { events: [event] } of yield* watcher.take) {
        if (event._tag === "Delete") return deleted
        if (!isOn(event.entry, held.session.lease)) return takenBy(event.entry, event.revision)
        note(kept, held, event.revision, event.entry.value)
      }
    }
  }))
