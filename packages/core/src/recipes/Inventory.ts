/**
 * An inventory of a store: the locks, elections, read-write locks and semaphores of all clients, with their holders and
 * waiters, and the other keys with a lease.
 *
 * For operators and their tools: who holds a lock, who waits for it, which client is that? `snapshot` reads it once,
 * `view` follows it.
 *
 * Queues are recognized by the layout of their keys, so those of Go's `concurrency` and `recipe` packages and of
 * `etcdctl lock` are found, too. The layout of an election is that of a lock. A lock whose name ends with `/read`,
 * `/write` or `/permits` is taken for a part of a read-write lock or semaphore.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as classify from "../internal/inventory/classify.ts"
import type { Contender, Queue, Snapshot, View } from "../internal/inventory/model.ts"
import * as internals from "../internal/kv/internals.ts"
import * as rangeView from "../internal/view/rangeView.ts"
import { Kv } from "../service/Kv.ts"
import * as KeyRange from "../values/KeyRange.ts"
import type { KvError } from "../values/KvError.ts"

export type { Contender, Queue, Snapshot, View }

/**
 * What is held and waited for in a range, at one revision. Default range: the whole store.
 *
 * **Details**
 *
 * Reads the range page by page, and keeps the values of keys with a lease only.
 *
 * **Gotchas**
 *
 * The keys of a lock `nightly` begin with `nightly/`. A range that contains only some of a queue's keys shows wrong
 * holders: use a prefix of the names.
 *
 * @example
 * ```ts
 * import { DistLock, Inventory, KeyRange } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* DistLock.acquire("jobs/nightly", { description: "worker a" })
 *   const { queues } = yield* Inventory.snapshot(KeyRange.prefix("jobs/"))
 *   queues.map(({ contenders, name }) => [name, contenders[0]?.description]) // => [["jobs/nightly", "worker a"]]
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const snapshot = (range: KeyRange.KeyRange = KeyRange.all): Effect.Effect<Snapshot, KvError, Kv> =>
  Effect.flatMap(Kv, (kv) =>
    Effect.map(
      rangeView.readPages(internals.of(kv).backend, range, classify.thin),
      (contents) => classify.snapshotOf(contents, Option.none())
    ))

/**
 * A view of what is held and waited for in a range. It is current when this returns, and is kept current until the
 * scope closes. Default range: the whole store.
 *
 * **Details**
 *
 * While the store cannot be reached, it waits. Later it shows the last inventory in an outage, with `staleSince`. All
 * keys of the range are kept in memory, without the values of those that have no lease.
 *
 * @example
 * ```ts
 * import { DistLock, Inventory, KeyRange } from "@effect-kv/core"
 * import { Effect, Option, Stream } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const view = yield* Inventory.view(KeyRange.prefix("jobs/"))
 *   yield* DistLock.acquire("jobs/nightly", { description: "worker a" })
 *   const locked = yield* view.changes.pipe(
 *     Stream.filter(({ queues }) => queues.length > 0),
 *     Stream.runHead
 *   )
 *   Option.map(locked, ({ queues }) => queues[0]?.name) // => Option.some("jobs/nightly")
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const view = (range: KeyRange.KeyRange = KeyRange.all): Effect.Effect<View, KvError, Kv | Scope.Scope> =>
  Effect.flatMap(Kv, (kv) => {
    const { backend, sessions } = internals.of(kv)
    return Effect.map(
      sessions.onClock(rangeView.openPatiently(backend, range, classify.thin)),
      (open): View => {
        const snapshotOf = ({ snapshot, staleSince }: rangeView.State) => classify.snapshotOf(snapshot, staleSince)
        return { snapshot: Effect.map(open.state, snapshotOf), changes: Stream.map(open.states, snapshotOf) }
      }
    )
  })
