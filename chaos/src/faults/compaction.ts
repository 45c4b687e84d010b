/**
 * The fault of a history that is gone.
 */
import * as Effect from "effect/Effect"
import type { Fault } from "../Fault.ts"
import type { Recording } from "../Store.ts"
import type { Testbed } from "../Testbed.ts"

/** How long clients are cut off before the compaction. */
const missing = "300 millis"

/**
 * Compacts the history as soon as it has been recorded, because the round is checked by it. Some clients are cut off
 * meanwhile, so their watches resume at revisions that are compacted.
 */
export const compact = Effect.fnUntraced(
  function*(testbed: Testbed, { clients }: Fault, history: Recording) {
    const links = clients.flatMap((client) => testbed.links[client]!)
    yield* Effect.acquireUseRelease(
      Effect.forEach(links, (link) => link.down),
      () => Effect.andThen(Effect.sleep(missing), compactNow(testbed, history)),
      () => Effect.forEach(links, (link) => link.heal)
    )
  }
)

const compactNow = Effect.fnUntraced(function*(testbed: Testbed, history: Recording) {
  const revision = yield* testbed.store.revision
  yield* history.upTo(revision)
  testbed.compactedAt = revision
  yield* testbed.store.compact(revision)
})
