/**
 * Words for cases about fences: every way to write, and holders that have lost their lock without knowing it.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { type Environment, newClient } from "./Case.ts"
import { textOf } from "./entries.ts"
import * as faults from "./faults.ts"
import { errorOf, failedWith, hold, on } from "./locking.ts"

/** Every way to write. */
export const writes: ReadonlyArray<(kv: Kv.Kv) => Effect.Effect<unknown, KvError.KvError>> = [
  (kv) => kv.put("k", "stale"),
  (kv) => kv.delete("k"),
  (kv) => kv.delete(KeyRange.prefix("k")),
  (kv) => kv.txn({ then: [Op.put("k", "stale"), Op.put("new", "stale")] }),
  (kv) => kv.txn({ if: [Compare.exists("nothing")], else: [Op.put("k", "stale")] }),
  (kv) => kv.txn({ then: [Op.txn({ then: [Op.delete("k")] })] }),
  (kv) => kv.testAndSet("k", Option.some("1"), "stale"),
  (kv) =>
    Effect.flatMap(kv.getEntry("k"), (entry) => kv.compareAndSet("k", Option.getOrThrow(entry).modRevision, "stale")),
  (kv) => kv.modify("k", () => "stale")
]

/** A client that does not notice that its locks are lost: of all keys it can only watch `k`. */
export const blindClient: Effect.Effect<Kv.Kv, unknown, Environment> = Effect.suspend(() => {
  const blind = faults.make()
  const isOfK = ({ request }: faults.Call) => request !== undefined && KeyRange.contains(request.range, "k")
  blind.before = (call) => call.kind === "watch" && !isOfK(call) ? Effect.never : Effect.void
  return faults.newClientWith(blind)
})

/**
 * A holder that was overtaken and does not know it: it sees neither that its key was deleted nor that its lease ended, as
 * if it had been stopped.
 */
export const staleHolder = Effect.fnUntraced(function*(kv: Kv.Kv, name: string) {
  const blind = faults.make()
  const client = yield* faults.newClientWith(blind)
  const { lock } = yield* hold(client, name, { ttl: "1 hour" })
  blind.before = (call) => call.kind === "execute" ? Effect.void : Effect.never
  yield* kv.delete(lock.key)
  const next = yield* hold(yield* newClient, name)
  assert.isTrue(next.lock.token > lock.token)
  assert.isTrue(yield* lock.isHeld, "it believes to hold it")
  return { client, lock }
})

/** What came of the same write under a lock: while the lock was held, and when it was lost unnoticed. */
export interface Tried {
  readonly token: bigint
  readonly held: Exit.Exit<unknown, unknown>
  readonly lost: Exit.Exit<unknown, unknown>
  /** How the whole ended. */
  readonly end: Exit.Exit<unknown, DistLock.Failure>
}

/** Something that writes the value to the key `k`. */
export type Write<R = never> = (value: string) => Effect.Effect<unknown, unknown, R>

/** Tries a write under a lock that the client takes. */
export const tryUnder = Effect.fnUntraced(function*<R>(
  kv: Kv.Kv,
  client: Kv.Kv,
  name: string,
  write: Write<R>,
  options?: DistLock.Options
) {
  let token = 0n
  let held: Tried["held"] = Exit.void
  let lost: Tried["lost"] = Exit.void
  const end = yield* DistLock.withLock(name, options, (lock) =>
    Effect.uninterruptible(Effect.gen(function*() {
      token = lock.token
      held = yield* Effect.exit(write("held"))
      // By a client that has no fence.
      yield* kv.delete(KeyRange.prefix(""))
      lost = yield* Effect.exit(write("stale"))
    }))).pipe(on(client), Effect.exit)
  return { token, held, lost, end } satisfies Tried
})

/** The write is fenced: done while the lock is held, rejected when it is lost. */
export const isFenced = Effect.fnUntraced(function*<R>(
  kv: Kv.Kv,
  client: Kv.Kv,
  name: string,
  write: Write<R>,
  what: string
) {
  const { end, held, lost, token } = yield* tryUnder(kv, client, name, write)
  assert.isTrue(Exit.isSuccess(held), `${what}: held: ${String(held)}`)
  isRejectedBy(token, lost, what)
  assert.strictEqual(failedWith(end, "LockLost").token, token, what)
  assert.strictEqual(yield* textOf(kv, "k"), undefined, what)
})

/** The write is not fenced: it is done though the lock is lost. */
export const isNotFenced = Effect.fnUntraced(function*<R>(
  kv: Kv.Kv,
  client: Kv.Kv,
  name: string,
  write: Write<R>,
  what: string,
  options?: DistLock.Options
) {
  const { held, lost } = yield* tryUnder(kv, client, name, write, options)
  assert.isTrue(Exit.isSuccess(held), `${what}: held: ${String(held)}`)
  assert.isTrue(Exit.isSuccess(lost), `${what}: lost: ${String(lost)}`)
  assert.strictEqual(yield* textOf(kv, "k"), "stale", what)
})

/** The exit of a write that the fence of the lock with that token rejected. */
export const isRejectedBy = (token: bigint, exit: Exit.Exit<unknown, unknown>, what: string): string => {
  const error = errorOf(exit)
  if (!KvError.isKvError(error) || error.reason._tag !== "LockLost") assert.fail(`${what}: ${String(exit)}`)
  assert.strictEqual(error.reason.token, token, what)
  assert.strictEqual(error.outcome, "NotApplied", what)
  return error.message
}
