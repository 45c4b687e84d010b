/**
 * The rule of a queue: what a recipe adds to the engine that all recipes share.
 *
 * A queue is a set of keys with leases, ordered by create revision. Keys of one create revision are ordered by name. A
 * contender puts its key at the end, and is admitted when the keys ahead of it satisfy the rule. A lock, a leader and a
 * writer need to have no contender ahead, a reader no writer; a semaphore adds up weights.
 *
 * Every rule is monotonic: keys ahead of a contender only disappear, and a contender that is admitted stays admitted. So
 * "admitted at a revision, and the key still exists" needs no second write, and a holder may rely on it.
 */
import type * as Effect from "effect/Effect"
import type { KvBackend } from "../../backend/KvBackend.ts"
import type { Kv } from "../../service/KvService.ts"
import type * as KvError from "../../values/KvError.ts"
import type { Watcher } from "../../values/Watch.ts"

/**
 * A contender's place in a queue: its key, and its fencing token, which is the key's create revision.
 *
 * @since 0.1.0
 */
export interface Place {
  readonly key: string
  readonly createRevision: bigint
}

/**
 * Where a contender stands in its queue. `Unclear`: the queue must be read. `Gone`: its key does not exist any more.
 * `Refused`: the rule can never admit it.
 *
 * @since 0.1.0
 */
export type Standing = Ended | Behind | { readonly _tag: "Unclear" }

/**
 * A standing that ends the wait.
 *
 * @since 0.1.0
 */
export type Ended = { readonly _tag: "Admitted" } | { readonly _tag: "Gone" } | { readonly _tag: "Refused" }

/**
 * `isPermanent`: the key ahead is known to have no lease, so it does not expire.
 *
 * @since 0.1.0
 */
export interface Behind {
  readonly _tag: "Behind"
  readonly predecessor: string
  readonly isPermanent: boolean
}

export const admitted: Standing & Ended = { _tag: "Admitted" }
export const gone: Standing & Ended = { _tag: "Gone" }
export const refused: Standing & Ended = { _tag: "Refused" }
export const unclear: Standing = { _tag: "Unclear" }

export const isEnded = (standing: Standing): standing is Ended =>
  standing._tag !== "Behind" && standing._tag !== "Unclear"

/**
 * The result of an attempt to enter a queue. `KeyExists` and `Refused` wrote nothing.
 *
 * @since 0.1.0
 */
export type Entry = Entered | { readonly _tag: "KeyExists" } | { readonly _tag: "Refused" }

/**
 * A key that was put at the end of a queue.
 *
 * @since 0.1.0
 */
export interface Entered {
  readonly _tag: "Entered"
  readonly createRevision: bigint
  readonly standing: Standing
}

/**
 * Callbacks for each step of a wait.
 *
 * @since 0.1.0
 */
export interface Observer {
  /** Called with each standing that is found out. */
  readonly onStanding: (standing: Standing) => Effect.Effect<void>
  /** The store could not be reached. The request is repeated. */
  readonly onFailure: (reason: KvError.Reason) => void
  /** Called with the watch that the wait depends on. If it is interrupted when the time runs out, the error says why. */
  readonly onWatch?: ((watcher: Watcher) => void) | undefined
}

/**
 * A queue to enter, and the rule by which it admits this contender.
 *
 * @since 0.1.0
 */
export interface Queue<out E = never> {
  /** The name in messages. */
  readonly name: string
  /** The prefix of the contender's key. The id of its lease follows it. */
  readonly prefix: string
  /**
   * Whether the key may be put again, on another lease. Not if other clients order the queue by mod revision.
   */
  readonly isMovable: boolean
  /** Whether `awaitTurn` notices the deletion of the contender's key, so that no other watch need do so meanwhile. */
  readonly watchesOwnKey: boolean
  /** What a fiber holds with it, to detect a fiber that would wait for itself. */
  readonly claim: SelfClaim
  /** Enters the queue at its end, in one request. */
  readonly enter: (backend: KvBackend, key: string, lease: bigint) => Effect.Effect<Entry, KvError.KvError>
  /** Run after a refusal. It fails, or changes what the next attempt to enter does. */
  readonly onRefused: Effect.Effect<void, E>
  /**
   * Waits until the rule admits the contender, without polling. Continues through outages: the place in the queue lasts
   * as long as its lease. Fails with `StoreReplaced` if the store was replaced and the new one does not have the place.
   */
  readonly awaitTurn: (
    kv: Kv,
    place: Place,
    standing: Standing,
    observer: Observer
  ) => Effect.Effect<Ended, KvError.KvError>
}

/**
 * A fiber that holds `weight` of `limit`, and requests more than the rest, would wait for itself.
 *
 * @since 0.1.0
 */
export interface SelfClaim {
  /** Identifies the resource within the `Kv`'s namespace. */
  readonly id: string
  readonly weight: number
  readonly limit: number
}
