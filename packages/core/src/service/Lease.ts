/**
 * Leases: keys attached to a lease are deleted when it expires or is revoked.
 *
 * `grant`, `keepAlive`, `revoke` and `timeToLive` send one request each. Most programs use a temporary key or a lock,
 * which keep their leases alive.
 */
import * as Effect from "effect/Effect"
import * as internals from "../internal/kv/internals.ts"
import * as internal from "../internal/values/grantSeconds.ts"
import * as leaseId from "../internal/values/leaseId.ts"
import * as leaseRecord from "../internal/values/leaseRecord.ts"
import type * as KvError from "../values/KvError.ts"
import type { GrantOptions, Lease, Status } from "../values/LeaseModel.ts"
import { Kv } from "./Kv.ts"

export type { GrantOptions, Lease, Status }

/**
 * Makes a lease as a value, for backends.
 *
 * @example
 * ```ts
 * import { Lease } from "@effect-kv/core"
 * import { Duration } from "effect"
 *
 * Lease.make({ id: 7n, ttl: Duration.seconds(10) }).id // => 7n
 * ```
 *
 * @since 0.1.0
 */
export const make: (fields: Lease) => Lease = leaseRecord.make

/**
 * Makes the status of a lease as a value, for backends.
 *
 * @example
 * ```ts
 * import { Lease } from "@effect-kv/core"
 * import { Duration } from "effect"
 *
 * const ttl = Duration.seconds(10)
 * Lease.makeStatus({ id: 7n, grantedTtl: ttl, remaining: ttl, keys: ["a"] }).keys // => ["a"]
 * ```
 *
 * @since 0.1.0
 */
export const makeStatus: (fields: Status) => Status = leaseRecord.makeStatus

/**
 * The longest time to live that can be requested, in seconds: etcd's limit.
 *
 * @since 0.1.0
 */
export const maxTtlSeconds: number = internal.maxTtlSeconds

/**
 * A random positive id for a lease.
 *
 * **When to use**
 *
 * To grant a lease under an id that the client knows, so that a repeated grant, or one whose response is lost, is about
 * the same lease.
 *
 * **Details**
 *
 * It is cryptographically random, whatever `Random` a test installs: clients that share a seed would choose the same
 * lease, and one could revoke the other's.
 *
 * @example
 * ```ts
 * import { Lease } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const id = yield* Lease.randomId
 *   const lease = yield* Lease.grant({ ttl: "10 seconds", id })
 *   lease.id === id // => true
 * })
 * ```
 *
 * @since 0.1.0
 */
export const randomId: Effect.Effect<bigint> = leaseId.random

/**
 * Grants a lease. It expires unless {@link keepAlive} is called within its time to live.
 *
 * The store may grant a longer time to live than requested. Fails with `LeaseExists` if the requested id is in use.
 *
 * @example
 * ```ts
 * import { Kv, Lease } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const lease = yield* Lease.grant({ ttl: "10 seconds" })
 *   yield* Kv.put("presence/me", "here", { lease: lease.id })
 *   yield* Lease.revoke(lease.id)
 *   yield* Kv.get("presence/me") // => Option.none()
 * })
 * ```
 *
 * @since 0.1.0
 */
export const grant = (options: GrantOptions): Effect.Effect<Lease, KvError.KvError, Kv> =>
  Effect.flatMap(Kv, (kv) => internals.of(kv).backend.leaseGrant(options))

/**
 * Renews a lease once: its time to live starts again. Fails with `LeaseNotFound` if it has ended.
 *
 * @example
 * ```ts
 * import { Lease } from "@effect-kv/core"
 * import { Duration, Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const { id } = yield* Lease.grant({ ttl: "10 seconds" })
 *   const { ttl } = yield* Lease.keepAlive(id)
 *   Duration.toSeconds(ttl) // => 10
 * })
 * ```
 *
 * @since 0.1.0
 */
export const keepAlive = (id: bigint): Effect.Effect<Lease, KvError.KvError, Kv> =>
  Effect.flatMap(Kv, (kv) => internals.of(kv).backend.leaseKeepAlive(id))

/**
 * Ends a lease and deletes the keys attached to it, in one revision. Fails with `LeaseNotFound` if it has ended.
 *
 * @example
 * ```ts
 * import { Lease } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const { id } = yield* Lease.grant({ ttl: "10 seconds" })
 *   yield* Lease.revoke(id)
 *   yield* Lease.revoke(id).pipe(
 *     Effect.as("revoked"),
 *     Effect.catchReason("KvError", "LeaseNotFound", () => Effect.succeed("gone"))
 *   ) // => "gone"
 * })
 * ```
 *
 * @since 0.1.0
 */
export const revoke = (id: bigint): Effect.Effect<void, KvError.KvError, Kv> =>
  Effect.flatMap(Kv, (kv) => internals.of(kv).backend.leaseRevoke(id))

/**
 * The time that a lease has left and, if requested, its keys. Fails with `LeaseNotFound` if it has ended.
 *
 * @example
 * ```ts
 * import { Kv, Lease } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const { id } = yield* Lease.grant({ ttl: "10 seconds" })
 *   yield* Kv.put("presence/me", "here", { lease: id })
 *   const { keys } = yield* Lease.timeToLive(id, { keys: true })
 *   const attached = keys // => ["presence/me"]
 * })
 * ```
 *
 * @since 0.1.0
 */
export const timeToLive = (
  id: bigint,
  options?: { readonly keys?: boolean | undefined }
): Effect.Effect<Status, KvError.KvError, Kv> =>
  Effect.flatMap(Kv, (kv) => internals.of(kv).backend.leaseTimeToLive(id, options))
