/**
 * Logins that expire: keys attached to a lease, which every use renews.
 *
 * Its test shows how to test code that depends on time: in memory, on the test clock, half an hour takes a millisecond.
 *
 *     node examples/src/LoginSessions.ts
 *     KV_URL=http://127.0.0.1:2379 node examples/src/LoginSessions.ts
 */
import { Compare, Kv, type KvError, Lease, Op } from "@effect-kv/core"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as StoreByUrl from "./StoreByUrl.ts"

/** Logs a user in until they have been idle for longer than `idle`. Returns false if they are logged in already. */
export const logIn = Effect.fnUntraced(function*(
  user: string,
  idle: Duration.Input
): Effect.fn.Return<boolean, KvError.KvError, Kv.Kv> {
  const kv = yield* Kv.Kv
  const lease = yield* Lease.grant({ ttl: idle })
  const { succeeded } = yield* kv.txn({
    if: [Compare.missing(`logins/${user}`)],
    then: [Op.put(`logins/${user}`, "", { lease: lease.id })]
  })
  if (!succeeded) yield* Lease.revoke(lease.id)
  return succeeded
})

/** Renews a login. False if there is none, or if the user was idle for too long. */
export const touch = Effect.fnUntraced(function*(user: string): Effect.fn.Return<boolean, KvError.KvError, Kv.Kv> {
  const lease = yield* leaseOf(user)
  if (Option.isNone(lease)) return false
  return yield* Lease.keepAlive(lease.value).pipe(
    Effect.as(true),
    // The lease expired between the two calls.
    Effect.catchReason("KvError", "LeaseNotFound", () => Effect.succeed(false))
  )
})

/** Ends a login, if there is one. Revoking its lease deletes its key. */
export const logOut = Effect.fnUntraced(function*(user: string): Effect.fn.Return<void, KvError.KvError, Kv.Kv> {
  const lease = yield* leaseOf(user)
  if (Option.isNone(lease)) return
  yield* Lease.revoke(lease.value).pipe(Effect.catchReason("KvError", "LeaseNotFound", () => Effect.void))
})

const leaseOf = (user: string): Effect.Effect<Option.Option<bigint>, KvError.KvError, Kv.Kv> =>
  Effect.map(Kv.getEntry(`logins/${user}`), Option.flatMap((entry) => entry.lease))

/** A user logs in, is active for a while, and leaves. */
export const program = Effect.gen(function*() {
  const kv = yield* Kv.Kv
  yield* logIn("ada", "4 seconds")
  for (let second = 1; second <= 3; second++) {
    yield* Effect.sleep("1 second")
    yield* Console.log(`after ${second} s of use: ${(yield* touch("ada")) ? "logged in" : "logged out"}`)
  }
  const gone = yield* kv.waitForChange("logins/ada", { only: "Delete" })
  yield* Console.log(`then idle for too long: ${gone._tag === "Delete" ? "logged out" : "logged in"}`)
})

if (process.argv[1] === import.meta.filename) {
  NodeRuntime.runMain(
    program.pipe(Effect.provide(Kv.layerPrefixed("examples/login-sessions/")), Effect.provide(StoreByUrl.layer))
  )
}
