/**
 * Queues: the engine of locks, elections, semaphores and read-write locks, for recipes of your own.
 *
 * A queue is a set of keys with leases, ordered by create revision. A recipe is its rule: which key a contender puts, and
 * when the keys ahead admit it. The engine does the rest: shared leases and their renewal, waiting without polling,
 * fencing, interruption on loss, and removal of the keys whatever happens.
 *
 * `behind` makes the rule of most recipes: a contender waits until no key of certain kinds is ahead of it. A rule of
 * another kind implements the interface `Queue`. It must be monotonic: a contender that was admitted once stays admitted
 * as long as its key exists.
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as internals from "../internal/kv/internals.ts"
import * as contendersOf from "../internal/queue/contenders.ts"
import type { AcquireOptions, MultiLock } from "../internal/queue/model.ts"
import * as predecessor from "../internal/queue/predecessor.ts"
import type {
  Behind,
  Ended,
  Entered,
  Entry as EntryResult,
  Observer,
  Place,
  Queue,
  SelfClaim,
  Standing
} from "../internal/queue/rule.ts"
import * as queues from "../internal/queue/use.ts"
import { Kv } from "../service/Kv.ts"
import type { Entry } from "../values/Entry.ts"
import type * as KvError from "../values/KvError.ts"
import type { LockHoldExceeded, LockLost, LockTimeout } from "../values/LockError.ts"

export type { Behind, Ended, Entered, EntryResult, Observer, Place, Queue, SelfClaim, Standing }

/**
 * Options of running an effect: those of a lock.
 *
 * @since 0.1.0
 */
export type Options = queues.Options

/**
 * A queue whose contender is admitted when no key under the prefixes `ahead` is older than its own.
 *
 * **Details**
 *
 * A waiter watches the youngest key ahead of it, so a release wakes only those behind it. Only keys directly under a
 * prefix count: those of a queue `a/b/` do not block `a/`.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { Queue } from "@effect-kv/core/recipe"
 * import { Effect, Option } from "effect"
 *
 * // Any number of imports or one export: imports wait for exports, exports for all others.
 * const importing = Queue.behind({ name: "data", prefix: "data/import/", ahead: ["data/export/"] })
 *
 * const program = Effect.gen(function*() {
 *   yield* Queue.use([importing], () => Kv.put("imported", "yes"))
 *   yield* Kv.get("imported") // => Option.some("yes")
 * })
 * ```
 *
 * @since 0.1.0
 */
export const behind = (options: {
  /** The name in messages. */
  readonly name: string
  /** The prefix of the contender's key, with a slash at the end. The id of its lease follows it. */
  readonly prefix: string
  /** The prefixes of the keys that it waits for. */
  readonly ahead: NonEmptyReadonlyArray<string>
  /** The value of the contender's key. Default: empty. */
  readonly value?: string | undefined
}): Queue => predecessor.queue({ ...options, value: options.value ?? "", isMovable: true, id: options.name })

/**
 * Runs a function while holding its places at the head of all the queues, as `DistLock.use` does for locks: fenced, and
 * interrupted when one of them is lost.
 *
 * **Gotchas**
 *
 * Several queues must be given in the same order by every client, or two clients may wait for each other.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { Queue } from "@effect-kv/core/recipe"
 * import { Effect, Option } from "effect"
 *
 * const mutex = Queue.behind({ name: "nightly", prefix: "nightly/", ahead: ["nightly/"] })
 *
 * const program = Effect.gen(function*() {
 *   yield* Queue.use([mutex], ({ parts }) => Kv.put("report", `token ${parts[0].token > 0n}`))
 *   yield* Kv.get("report") // => Option.some("token true")
 * })
 * ```
 *
 * @since 0.1.0
 */
export const use = <A, E, R, E2 = never>(
  queuesToEnter: NonEmptyReadonlyArray<Queue<E2>>,
  f: (held: MultiLock) => Effect.Effect<A, E, R>,
  options?: Options
): Effect.Effect<A, E | E2 | KvError.KvError | LockTimeout | LockLost | LockHoldExceeded, R | Kv> =>
  Effect.flatMap(Kv, (kv) => queues.use(kv, queuesToEnter, f, options))

/**
 * Waits for its turn in all the queues, and keeps its places until the scope closes.
 *
 * **Gotchas**
 *
 * Writes are not fenced, and nothing is interrupted when a place is lost. Run the work with `DistLock.fenced`.
 *
 * @example
 * ```ts
 * import { Queue } from "@effect-kv/core/recipe"
 * import { Effect } from "effect"
 *
 * const mutex = Queue.behind({ name: "nightly", prefix: "nightly/", ahead: ["nightly/"] })
 *
 * const program = Effect.gen(function*() {
 *   const held = yield* Queue.acquire([mutex])
 *   yield* held.isHeld // => true
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const acquire = <E = never>(
  queuesToEnter: NonEmptyReadonlyArray<Queue<E>>,
  options?: AcquireOptions
): Effect.Effect<MultiLock, E | KvError.KvError | LockTimeout | LockLost, Kv | Scope.Scope> =>
  Effect.flatMap(Kv, (kv) => queues.acquire(kv, queuesToEnter, options))

/**
 * The keys of all contenders under the prefix, the oldest first.
 *
 * @example
 * ```ts
 * import { Queue } from "@effect-kv/core/recipe"
 * import { Effect } from "effect"
 *
 * const mutex = Queue.behind({ name: "nightly", prefix: "nightly/", ahead: ["nightly/"], value: "worker a" })
 *
 * const program = Effect.gen(function*() {
 *   yield* Queue.acquire([mutex])
 *   const contenders = yield* Queue.contenders("nightly/")
 *   contenders.map(({ lossyText }) => lossyText) // => ["worker a"]
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const contenders = (prefix: string): Effect.Effect<ReadonlyArray<Entry>, KvError.KvError, Kv> =>
  Effect.flatMap(Kv, (kv) => contendersOf.all(internals.of(kv).unfenced, prefix))
