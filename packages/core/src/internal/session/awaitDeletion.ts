/**
 * Waiting for a key to be deleted, however long and through whatever outages.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import { execute, type KvBackend } from "../../backend/KvBackend.ts"
import type { Entry } from "../../values/Entry.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import type * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"

/** Pause before what could not reach the store is tried again. */
export const retryInterval = Duration.millis(200)

/** Whether a read or a watch that failed so can be begun again. */
export const isPassing = ({ isRetryable, reason }: KvError.KvError): boolean =>
  isRetryable || reason._tag === "Compacted" || reason._tag === "StoreReplaced"

/** Pause before what was refused is tried again: a token or a permission may come back. */
const refusedInterval = Duration.seconds(2)

/**
 * Waits for the first deletion of the key after the revision, at which it existed. Where the history is lost in which that
 * may have been, a look tells: whether the entry that is there is still the one. Never ends once the client is closed.
 *
 * If the store was replaced, `onReplaced` is called with the reason, and the look tells whether the new one has the entry.
 */
export const await_ = (
  backend: KvBackend,
  key: string,
  revision: bigint,
  isTheOne: (entry: Entry) => boolean,
  onReplaced: (reason: string) => void = () => {}
): Effect.Effect<void> =>
  deletedAfter(backend, key, revision).pipe(
    Effect.catch((error) => {
      if (error.reason._tag === "StoreReplaced") onReplaced(error.reason.message)
      return isPassing(error)
        ? Effect.flatMap(lookUntilAnswered(backend, key), (response) => {
          const entry = response.entries[0]
          return entry !== undefined && isTheOne(entry)
            ? await_(backend, key, response.revision, isTheOne, onReplaced)
            : Effect.void
        })
        : Effect.fail(error)
    }),
    Effect.catch((error) =>
      error.reason._tag === "Closed"
        ? Effect.never
        : Effect.delay(await_(backend, key, revision, isTheOne, onReplaced), refusedInterval)
    )
  )

export {
  /** @see await_ */
  await_ as await
}

const deletedAfter = (backend: KvBackend, key: string, revision: bigint): Effect.Effect<void, KvError.KvError> =>
  Effect.scopedWith((scope) =>
    Effect.flatMap(
      Scope.provide(
        backend.watch({ range: KeyRange.key(key), only: "Delete", startRevision: revision + 1n }),
        scope
      ),
      (watcher) => Effect.asVoid(watcher.take)
    )
  )

const lookUntilAnswered = (backend: KvBackend, key: string): Effect.Effect<Op.RangeResponse, KvError.KvError> =>
  Effect.sleep(retryInterval).pipe(
    Effect.andThen(execute(backend, Op.get(key, { keysOnly: true }))),
    Effect.catch((error) => isPassing(error) ? lookUntilAnswered(backend, key) : Effect.fail(error))
  )
