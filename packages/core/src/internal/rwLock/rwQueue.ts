/**
 * The queue of a read-write lock: a reader is admitted when no writer is ahead of it, a writer when no one is. The key
 * layout is that of Go's `recipe.RWMutex`: `NAME/read/...` and `NAME/write/...`.
 *
 * Go orders the queue by mod revision, so a contender's key is never put again: it would go to the end. And Go looks at
 * every key that begins with `NAME/write`, also at those of `NAME/writers/`; here only keys directly under `NAME/read/`
 * and `NAME/write/` are contenders.
 */
import * as Effect from "effect/Effect"
import type { KvBackend } from "../../backend/KvBackend.ts"
import * as contenders from "../queue/contenders.ts"
import * as predecessor from "../queue/predecessor.ts"
import type { Queue } from "../queue/rule.ts"

/** How a contender uses the lock. */
export type Mode = "Read" | "Write"

const readPrefixOf = (name: string): string => `${name}/read/`
const writePrefixOf = (name: string): string => `${name}/write/`

export const queueOf = (name: string, mode: Mode, description: string | undefined): Queue =>
  predecessor.queue({
    name,
    prefix: mode === "Read" ? readPrefixOf(name) : writePrefixOf(name),
    value: description ?? "",
    ahead: mode === "Read" ? [writePrefixOf(name)] : [readPrefixOf(name), writePrefixOf(name)],
    isMovable: false,
    // A reader that reads again would wait for itself as soon as a writer is between.
    id: `${name}/read|write`
  })

/** All contenders in the order of the queue. */
export const all = Effect.fnUntraced(function*(backend: KvBackend, name: string) {
  const [readers, writers] = yield* Effect.all(
    [contenders.all(backend, readPrefixOf(name)), contenders.all(backend, writePrefixOf(name))],
    { concurrency: 2 }
  )
  return [
    ...readers.map((entry) => ({ mode: "Read" as const, entry })),
    ...writers.map((entry) => ({ mode: "Write" as const, entry }))
  ].sort((a, b) => contenders.isBefore(a.entry, b.entry) ? -1 : 1)
})
