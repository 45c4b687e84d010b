/**
 * A watch of a workload that is read continuously.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import type { KvError } from "@effect-kv/core/KvError"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import { defaultPrefix } from "./counter.ts"

/**
 * A watch that is read continuously.
 *
 * @since 0.1.0
 */
export interface Reading {
  /** Waits until it was read up to this revision, at which a watched key must have changed. */
  readonly upTo: (revision: bigint) => Effect.Effect<void>
}

/**
 * Watches all keys of the workload, and reads until the scope closes.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { MemoryStore } from "@effect-kv/memory"
 * import { Recorder, Workload } from "@effect-kv/test-suite/verification"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* MemoryStore.make()
 *   const recorder = yield* Recorder.make
 *   const reading = yield* Workload.watch(recorder.client("watcher")(yield* store.connect), "app/")
 *   const kv = yield* Effect.flatMap(store.connect, Kv.make)
 *   const { revision } = yield* kv.put("app/limit", "10")
 *   yield* reading.upTo(revision)
 *   const { watches } = yield* recorder.history
 *   watches[0]?.batches.length // => 1
 * })
 * ```
 *
 * @since 0.1.0
 */
export const watch = Effect.fnUntraced(function*(
  backend: KvBackend,
  prefix: string = defaultPrefix
): Effect.fn.Return<Reading, KvError, Scope.Scope> {
  const watcher = yield* backend.watch({ range: KeyRange.prefix(prefix), previous: true })
  const waiting = new Set<{ readonly revision: bigint; readonly done: Deferred.Deferred<void> }>()
  let read = watcher.revision
  const take = Effect.map(watcher.take, (batches) => {
    read = batches.at(-1)!.revision
    for (const each of waiting) {
      if (each.revision <= read) Deferred.doneUnsafe(each.done, Exit.void)
    }
  })
  yield* Effect.forkScoped(Effect.ignore(Effect.forever(take)))
  return {
    upTo: (revision) =>
      Effect.suspend(() => {
        if (revision <= read) return Effect.void
        const each = { revision, done: Deferred.makeUnsafe<void>() }
        waiting.add(each)
        return Effect.ensuring(Deferred.await(each.done), Effect.sync(() => waiting.delete(each)))
      })
  }
})
