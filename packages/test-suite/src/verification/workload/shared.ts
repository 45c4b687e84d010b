/**
 * Work under what several clients can hold at once: the permits of a semaphore, and a read-write lock. Each write is a
 * fenced effect.
 */
import type * as DistLock from "@effect-kv/core/DistLock"
import * as DistSemaphore from "@effect-kv/core/DistSemaphore"
import * as Kv from "@effect-kv/core/Kv"
import * as Effect from "effect/Effect"
import type * as Recorder from "../history/Recorder.ts"
import { defaultPrefix } from "./counter.ts"

/**
 * The name, without the prefix, of the semaphore.
 *
 * @since 0.1.0
 */
export const semaphore = "semaphore"

/**
 * How many permits the semaphore has.
 *
 * @since 0.1.0
 */
export const permits = 3

/**
 * The name, without the prefix, of the read-write lock.
 *
 * @since 0.1.0
 */
export const rwLock = "rw-lock"

/**
 * The key, without the prefix, that holders of permits and of the read-write lock write.
 *
 * @since 0.1.0
 */
export const shared = "shared"

/**
 * Options of work under permits or under a read-write lock.
 *
 * @since 0.1.0
 */
export interface SharedOptions extends DistLock.Options {
  /** All keys begin with this. Default: `w/`. */
  readonly prefix?: string | undefined
  /** Runs before the write. Default: nothing. */
  readonly meanwhile?: Effect.Effect<void> | undefined
}

/**
 * Writes once while holding that many permits.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { MemoryStore } from "@effect-kv/memory"
 * import { LockChecker, Recorder, Workload } from "@effect-kv/test-suite/verification"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* MemoryStore.make()
 *   const recorder = yield* Recorder.make
 *   const kv = yield* Effect.flatMap(store.connect, Kv.make)
 *   yield* Effect.all([1, 2, 3].map((permits) => Workload.usePermits(recorder, "a", kv, permits)), { concurrency: 3 })
 *   LockChecker.check(yield* recorder.history, { permits: { "w/semaphore": Workload.permits } }) // => []
 * })
 * ```
 *
 * @since 0.1.0
 */
export const usePermits = Effect.fnUntraced(function*(
  recorder: Recorder.Recorder,
  client: string,
  kv: Kv.Kv,
  weight: number,
  options?: SharedOptions
) {
  const name = `${options?.prefix ?? defaultPrefix}${semaphore}`
  const made = yield* Effect.provideService(DistSemaphore.make(name, { permits }), Kv.Kv, kv)
  return yield* recorder.withPermits(
    client,
    made,
    weight,
    (lock) => write(recorder, client, kv, lock, options),
    options
  )
})

/**
 * Writes once while holding the read-write lock.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { MemoryStore } from "@effect-kv/memory"
 * import { LockChecker, Recorder, Workload } from "@effect-kv/test-suite/verification"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* MemoryStore.make()
 *   const recorder = yield* Recorder.make
 *   const kv = yield* Effect.flatMap(store.connect, Kv.make)
 *   yield* Effect.all([Workload.useRwLock(recorder, "a", kv, "Read"), Workload.useRwLock(recorder, "a", kv, "Write")], {
 *     concurrency: 2
 *   })
 *   LockChecker.check(yield* recorder.history) // => []
 * })
 * ```
 *
 * @since 0.1.0
 */
export const useRwLock = (
  recorder: Recorder.Recorder,
  client: string,
  kv: Kv.Kv,
  mode: "Read" | "Write",
  options?: SharedOptions
) => {
  const names = [`${options?.prefix ?? defaultPrefix}${rwLock}`]
  return Effect.provideService(
    recorder.withRwLocks(
      client,
      mode === "Read" ? { read: names } : { write: names },
      ({ parts: [held] }) => write(recorder, client, kv, held, options),
      options
    ),
    Kv.Kv,
    kv
  )
}

const write = (
  recorder: Recorder.Recorder,
  client: string,
  kv: Kv.Kv,
  held: Recorder.Held,
  options: SharedOptions | undefined
) => {
  const resource = `${options?.prefix ?? defaultPrefix}${shared}`
  return Effect.flatMap(recorder.value(client), (value) =>
    Effect.andThen(
      options?.meanwhile ?? Effect.void,
      recorder.fenced(client, held, resource)(kv.put(resource, value))
    ))
}
