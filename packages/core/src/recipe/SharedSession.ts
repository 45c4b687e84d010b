/**
 * Shared sessions: the leases that a client keeps alive for its locks and temporary keys, one per time to live.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as internals from "../internal/kv/internals.ts"
import { defaultTtl, type Options, type Session } from "../internal/session/model.ts"
import { Kv } from "../service/Kv.ts"
import type * as KvError from "../values/KvError.ts"

/**
 * A session of the client with that time to live, which other users of the client share. It is kept alive at least until
 * the scope closes.
 *
 * **When to use**
 *
 * In a recipe that puts keys of its own. It costs no lease grant if the client has such a session. A session that only one
 * caller uses, and ends by itself, is `Session.make`.
 *
 * **Gotchas**
 *
 * Keys that you attach to its lease are not deleted when your scope closes, because the lease may live on. Add a
 * finalizer that deletes them, and put no key whose name another user of the session may have: `Queue` does both.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { SharedSession } from "@effect-kv/core/recipe"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const first = yield* SharedSession.get({ ttl: "10 seconds" })
 *   const second = yield* SharedSession.get({ ttl: "10 seconds" })
 *   first.lease === second.lease // => true
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const get = Effect.fnUntraced(function*(
  options?: Options
): Effect.fn.Return<Session, KvError.KvError, Kv | Scope.Scope> {
  const { sessions } = internals.of(yield* Kv)
  const scope = yield* Effect.scope
  return yield* sessions.onClock(sessions.get(options?.ttl ?? defaultTtl, scope))
})
