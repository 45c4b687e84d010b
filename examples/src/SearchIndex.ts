/**
 * A search index of several keys that many read and one replaces: readers never see half of a replacement.
 *
 *     node examples/src/SearchIndex.ts
 *     KV_URL=http://127.0.0.1:2379 node examples/src/SearchIndex.ts
 */
import { DistRwLock, KeyRange, Kv } from "@effect-kv/core"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as StoreByUrl from "./StoreByUrl.ts"

export const lockName = "index"

/** Reads the whole index, page by page, while it is not being replaced. Others may read it at the same time. */
export const load = Effect.map(
  Kv.range(KeyRange.prefix("pages/")),
  ({ entries }) => entries.map(({ lossyText }) => lossyText)
).pipe(DistRwLock.withReadLock(lockName, { acquireTimeout: "10 seconds" }))

/** Replaces the index, which is too large for one transaction. Its writes are rejected if the lock is lost. */
export const replace = (version: string, pages: number) =>
  Effect.forEach(Array.from({ length: pages }, (_, i) => `pages/${i}`), (key) => Kv.put(key, version), {
    discard: true
  }).pipe(DistRwLock.withWriteLock(lockName, { maxHold: "1 minute" }))

/** Several readers while the index is replaced, again and again. Returns the versions that each reader saw. */
export const program = Effect.gen(function*() {
  yield* replace("1", 20)
  const writer = Effect.forEach(["2", "3", "4"], (version) => replace(version, 20))
  const reader = Effect.map(
    Effect.forEach(Array.from({ length: 5 }), () => load),
    (loads) => loads.map((pages) => [...new Set(pages)].join(" and "))
  )
  const [, ...seen] = yield* Effect.all([writer, reader, reader, reader], { concurrency: "unbounded" })
  return seen
})

if (process.argv[1] === import.meta.filename) {
  NodeRuntime.runMain(
    Effect.flatMap(program, Effect.forEach((versions) => Console.log(`a reader saw ${versions.join(", ")}`))).pipe(
      Effect.provide(Kv.layerPrefixed("examples/search-index/")),
      Effect.provide(StoreByUrl.layer)
    )
  )
}
