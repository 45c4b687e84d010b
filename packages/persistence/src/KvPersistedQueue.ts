/**
 * Effect's `PersistedQueue` on a `Kv`: durable work that the processes of a fleet share.
 *
 * A worker claims items under its session. If its process dies, its items are delivered again within the session's time to
 * live, by a watch, without polling. A worker that has lost its claim cannot complete or fail the item any more: the store
 * rejects it, and the end that the other worker records stands.
 *
 * Delivery is at least once, as in every store of this queue. Items are delivered in the order in which they were offered;
 * those that were returned or left behind come first.
 */
import * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as PersistedQueue from "effect/persistence/PersistedQueue"
import type * as Scope from "effect/Scope"
import * as checked from "./internal/checked.ts"
import * as inspection from "./internal/queue/inspection.ts"
import type { Counts, FailedItem } from "./internal/queue/inspection.ts"
import * as store from "./internal/queue/store.ts"

export type { Counts, FailedItem }

/**
 * Options of the queues of a store.
 *
 * @since 0.1.0
 */
export interface Options {
  /**
   * The prefix of all keys. A slash is added if it does not end with one. Stores with different prefixes share nothing.
   * Default: `persisted-queue/`.
   */
  readonly prefix?: string | undefined
  /**
   * Time to live of the lease under which a process claims items: how long it takes the others to take over the items of
   * a process that has died. Whole seconds; etcd grants at least 2. Default: 10 seconds.
   */
  readonly ttl?: Duration.Input | undefined
}

const defaultPrefix = "persisted-queue/"

/**
 * Makes the store of persisted queues. Processes that use the same prefix share their queues.
 *
 * **Details**
 *
 * It fails with `InvalidRequest` if an option is wrong. It makes no request: a process registers with a queue at its first
 * `take`, and leaves it 30 seconds after the last one.
 *
 * A `take` waits while the store cannot be reached. If the store rejects the client, or the client is closed, it fails
 * with a `PersistedQueueError` whose cause is the `KvError`. An `offer` that fails with the cause `Indeterminate` may have
 * been stored; offer it again under the same id.
 *
 * @example
 * ```ts
 * import { KvPersistedQueue } from "@effect-kv/persistence"
 * import { Effect, Schema } from "effect"
 * import { PersistedQueue } from "effect/persistence"
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* KvPersistedQueue.makeStore({ prefix: "my-app/queues", ttl: "5 seconds" })
 *   const queue = yield* PersistedQueue.make({ name: "mails", schema: Schema.String }).pipe(
 *     Effect.provide(PersistedQueue.layer),
 *     Effect.provideService(PersistedQueue.PersistedQueueStore, store)
 *   )
 *   yield* queue.offer("hello")
 *   yield* queue.take((mail, { attempts }) => Effect.succeed(`${mail}, attempt ${attempts}`)) // => "hello, attempt 1"
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const makeStore = Effect.fnUntraced(function*(
  options?: Options
): Effect.fn.Return<PersistedQueue.PersistedQueueStore["Service"], KvError, Kv.Kv | Scope.Scope> {
  const prefix = yield* checked.prefix(options?.prefix ?? defaultPrefix)
  const ttl = yield* checked.positive("ttl", options?.ttl ?? "10 seconds")
  return yield* store.make({ prefix, ttl })
})

/**
 * The `PersistedQueueStore` of a layer, for `PersistedQueue.layer`: see {@link makeStore}.
 *
 * @example
 * ```ts
 * import { KvPersistedQueue } from "@effect-kv/persistence"
 * import { Effect, Layer, Schema } from "effect"
 * import { PersistedQueue } from "effect/persistence"
 *
 * const Queues = PersistedQueue.layer.pipe(Layer.provide(KvPersistedQueue.layerStore({ ttl: "5 seconds" })))
 *
 * const program = Effect.gen(function*() {
 *   const queue = yield* PersistedQueue.make({ name: "mails", schema: Schema.String })
 *   yield* queue.offer("hello")
 *   yield* queue.take((mail) => Effect.succeed(mail)) // => "hello"
 * }).pipe(Effect.provide(Queues))
 * ```
 *
 * @since 0.1.0
 */
export const layerStore = (options?: Options): Layer.Layer<PersistedQueue.PersistedQueueStore, KvError, Kv.Kv> =>
  Layer.effect(PersistedQueue.PersistedQueueStore, makeStore(options))

/**
 * The `PersistedQueueFactory` with its store, all that a program with queues needs.
 *
 * @example
 * ```ts
 * import { KvPersistedQueue } from "@effect-kv/persistence"
 * import { Effect, Schema } from "effect"
 * import { PersistedQueue } from "effect/persistence"
 *
 * const program = Effect.gen(function*() {
 *   const queue = yield* PersistedQueue.make({ name: "orders", schema: Schema.Struct({ id: Schema.Number }) })
 *   yield* queue.offer({ id: 7 }, { id: "order-7" })
 *   yield* queue.offer({ id: 7 }, { id: "order-7" }) // the same order: not offered again
 *   yield* queue.take((order) => Effect.succeed(order.id)) // => 7
 * }).pipe(Effect.provide(KvPersistedQueue.layer()))
 * ```
 *
 * @since 0.1.0
 */
export const layer = (
  options?: Options
): Layer.Layer<PersistedQueue.PersistedQueueFactory | PersistedQueue.PersistedQueueStore, KvError, Kv.Kv> =>
  Layer.provideMerge(PersistedQueue.layer, layerStore(options))

/**
 * Removes completed items on a schedule, as `PersistedQueue.layerCleanup` does, with a retention that suits a `Kv`.
 *
 * **Details**
 *
 * Completed items are kept for `timeToLive`, so that their ids are not accepted again; default: 1 day. Failed ones are
 * kept for `failedTimeToLive`; default: indefinitely. Items with generated ids are kept for 10 minutes at most. Default of
 * `interval`: 10 minutes.
 *
 * **Gotchas**
 *
 * Each completed item with an id of yours is two small keys until it is removed. Effect's default of 30 days fills an etcd
 * sooner than a database. Ages are measured by this process's clock against those of the workers.
 *
 * @example
 * ```ts
 * import { KvPersistedQueue } from "@effect-kv/persistence"
 * import { Effect, Layer, Schema } from "effect"
 * import { PersistedQueue } from "effect/persistence"
 *
 * const Cleanup = KvPersistedQueue.layerCleanup({ timeToLive: "2 hours", failedTimeToLive: "7 days" })
 * const Queues = Cleanup.pipe(Layer.provideMerge(KvPersistedQueue.layer()))
 *
 * const program = Effect.gen(function*() {
 *   const queue = yield* PersistedQueue.make({ name: "mails", schema: Schema.String })
 *   yield* queue.offer("hello", { id: "mail-1" }) // => "mail-1"
 * }).pipe(Effect.provide(Queues))
 * ```
 *
 * @since 0.1.0
 */
export const layerCleanup = (options?: {
  readonly interval?: Duration.Input | undefined
  readonly timeToLive?: Duration.Input | undefined
  readonly failedTimeToLive?: Duration.Input | undefined
}): Layer.Layer<never, never, PersistedQueue.PersistedQueueStore> =>
  PersistedQueue.layerCleanup({
    interval: options?.interval ?? "10 minutes",
    timeToLive: options?.timeToLive ?? Duration.days(1),
    failedTimeToLive: options?.failedTimeToLive
  })

/**
 * How many items of a queue are in each state. One request, whatever the length of the queue.
 *
 * @example
 * ```ts
 * import { KvPersistedQueue } from "@effect-kv/persistence"
 * import { Effect, Schema } from "effect"
 * import { PersistedQueue } from "effect/persistence"
 *
 * const program = Effect.gen(function*() {
 *   const queue = yield* PersistedQueue.make({ name: "mails", schema: Schema.String })
 *   yield* queue.offer("now")
 *   yield* queue.offer("later", { delay: "1 hour" })
 *   const { ready, delayed } = yield* KvPersistedQueue.counts("mails")
 *   const waiting = [ready, delayed] // => [1, 1]
 * }).pipe(Effect.provide(KvPersistedQueue.layer()))
 * ```
 *
 * @since 0.1.0
 */
export const counts = (
  name: string,
  options?: Pick<Options, "prefix">
): Effect.Effect<Counts, KvError, Kv.Kv> =>
  Effect.gen(function*() {
    return yield* inspection.counts(yield* Kv.Kv, yield* checked.prefix(options?.prefix ?? defaultPrefix), name)
  })

/**
 * The items of a queue that have failed for good, those that failed first at the beginning: the dead letters.
 *
 * @example
 * ```ts
 * import { KvPersistedQueue } from "@effect-kv/persistence"
 * import { Effect, Schema } from "effect"
 * import { PersistedQueue } from "effect/persistence"
 *
 * const program = Effect.gen(function*() {
 *   const queue = yield* PersistedQueue.make({ name: "mails", schema: Schema.String, maxAttempts: 1 })
 *   yield* queue.offer("hello", { id: "mail-1" })
 *   yield* Effect.flip(queue.take(() => Effect.fail("no route")))
 *   const failed = yield* KvPersistedQueue.failed("mails", { limit: 10 })
 *   failed.map(({ id, attempts, element }) => [id, attempts, element]) // => [["mail-1", 1, "hello"]]
 * }).pipe(Effect.provide(KvPersistedQueue.layer()))
 * ```
 *
 * @since 0.1.0
 */
export const failed = (
  name: string,
  options?: Pick<Options, "prefix"> & {
    /** The most items to return, from 1 to 64. Default: 64. */
    readonly limit?: number | undefined
  }
): Effect.Effect<ReadonlyArray<FailedItem>, KvError, Kv.Kv> =>
  Effect.gen(function*() {
    const prefix = yield* checked.prefix(options?.prefix ?? defaultPrefix)
    return yield* inspection.failed(yield* Kv.Kv, prefix, name, options?.limit ?? 64)
  })
