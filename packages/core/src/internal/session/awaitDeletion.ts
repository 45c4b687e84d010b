/**
 * A wait for the deletion of a key that continues through outages.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import { execute, type KvBackend } from "../../backend/KvBackend.ts"
import type { Entry } from "../../values/Entry.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import type * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"

/** Pause before a request that could not reach the store is repeated. */
export const retryInterval = Duration.millis(200)

/** Whether a read or a watch that failed with this error can be started again. */
export const isPassing = ({ isRetryable, reason }: KvError.KvError): boolean =>
  isRetryable || reason._tag === "Compacted" || reason._tag === "StoreReplaced"

/** Pause before a rejected request is repeated: the token or the permission may be restored. */
export const rejectedInterval = Duration.seconds(2)

/**
 * Waits for the first deletion of the key after the revision, at which it existed. Never ends once the client is
 * closed.
 *
 * If the watch fails, the deletion may have been missed. Then the key is read, and `isTheOne` decides whether its entry
 * is still the same. If the store was replaced, `onReplaced` is called with the reason before the read.
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
        ? Effect.flatMap(readThroughOutage(backend, key), (response) => {
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
        : Effect.delay(await_(backend, key, revision, isTheOne, onReplaced), rejectedInterval)
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

const readThroughOutage = (backend: KvBackend, key: string): Effect.Effect<Op.RangeResponse, KvError.KvError> =>
  Effect.sleep(retryInterval).pipe(
    Effect.andThen(execute(backend, Op.get(key, { keysOnly: true }))),
    Effect.catch((error) => isPassing(error) ? readThroughOutage(backend, key) : Effect.fail(error))
  )
