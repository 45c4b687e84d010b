/**
 * A lease that is kept alive while a scope is open. Temporary keys and locks are attached to sessions.
 *
 * A session is lost when the store says so, or when this machine's clocks say that its lease is about to end: a tenth
 * of the TTL, at most one second, before the TTL since the last renewal has passed. So its owner is interrupted, and its
 * finalizers start, before the store deletes its keys. A lost session stays lost.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { KvBackend } from "../backend/KvBackend.ts"
import * as internals from "../internal/kv/internals.ts"
import type { ClientMetrics } from "../internal/metrics/client.ts"
import * as leaseGrant from "../internal/session/leaseGrant.ts"
import * as lossLog from "../internal/session/lossLog.ts"
import { defaultTtl, type Options, type Session } from "../internal/session/model.ts"
import * as renewal from "../internal/session/renewal.ts"
import { SessionLost } from "../internal/session/sessionLost.ts"
import * as sessionSpan from "../internal/tracing/sessionSpan.ts"
import { Kv } from "../service/Kv.ts"
import type * as KvError from "../values/KvError.ts"

export { defaultTtl, SessionLost }

export type { Options, Session }

/**
 * Grants a lease and keeps it alive until the scope closes; then revokes it.
 *
 * **Details**
 *
 * A grant without a response within a second is repeated with another id, and the first lease is revoked. A closing
 * scope waits at most one second for the revocation, which then continues in the background; if it never succeeds, the
 * lease ends with its time to live. The loss of a session is logged as one warning. A session uses the clock of its
 * `Kv`'s client: the machine's clock on etcd, whatever clock a test installs.
 *
 * @example
 * ```ts
 * import { Kv, Session } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Effect.scoped(Effect.gen(function*() {
 *     const session = yield* Session.make({ ttl: "10 seconds" })
 *     yield* Kv.put("presence/me", "here", { lease: session.lease })
 *     yield* session.isAlive // => true
 *   }))
 *   yield* Kv.get("presence/me") // => Option.none()
 * })
 * ```
 *
 * @since 0.1.0
 */
export const make = (options?: Options): Effect.Effect<Session, KvError.KvError, Kv | Scope.Scope> =>
  Effect.flatMap(Kv, (kv) => {
    const { backend, sessions } = internals.of(kv)
    return sessions.onClock(open(backend, sessions.metrics, options))
  })

const open = (
  backend: KvBackend,
  metrics: ClientMetrics,
  options: Options | undefined
): Effect.Effect<Session, KvError.KvError, Scope.Scope> =>
  Effect.gen(function*() {
    const { granted, onEnd } = yield* sessionSpan.around(
      leaseGrant.grant(backend, options?.ttl ?? defaultTtl, leaseGrant.waitForRelease)
    )
    const session = yield* renewal.keep(backend, granted, metrics, onEnd)
    // Detached, because the owner often closes the session on a loss. It ends by itself: closing a session loses it.
    yield* Effect.forkDetach(
      Effect.flatMap(session.lostReason, (reason) => lossLog.sessionLost(session.lease, reason, []))
    )
    return session
  })
