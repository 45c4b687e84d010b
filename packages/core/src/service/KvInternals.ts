/**
 * The backends beneath a `Kv`, and the watcher beneath a subscription: for authors of recipes and wrappers.
 *
 * An application needs none of this: data and watches are methods of `Kv`, recipes are modules.
 */
import type { KvBackend } from "../backend/KvBackend.ts"
import * as internals from "../internal/kv/internals.ts"
import type { Watcher } from "../values/Watch.ts"
import { type Kv, type Subscription, SubscriptionTypeId } from "./KvService.ts"

/**
 * The backend that the methods of the `Kv` call: each write is conditional on the fences of the calling fiber, and keys
 * are those of the `Kv`'s namespace.
 *
 * **When to use**
 *
 * To make another client of the same store, `Kv.make(KvInternals.backendOf(kv))`, or to execute an operation that is a value.
 */
export const backendOf = (kv: Kv): KvBackend => internals.of(kv).backend

/**
 * The same backend without any fence, neither the calling fiber's nor the `Kv`'s own.
 *
 * **When to use**
 *
 * For the bookkeeping of a recipe, which must work after a lock was lost, such as the removal of its keys. Never for the
 * writes of an application.
 */
export const unfencedOf = (kv: Kv): KvBackend => internals.of(kv).unfenced

/** The watcher that a subscription reads. What one of them takes, the other does not get. */
export const watcherOf = (subscription: Subscription): Watcher => subscription[SubscriptionTypeId]
