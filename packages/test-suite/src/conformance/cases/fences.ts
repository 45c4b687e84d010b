/**
 * Helpers for cases about fences: every way to write, and holders that have not noticed the loss of their lock.
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

/** One write with each operation that can write. */
export const writes: ReadonlyArray<(kv: Kv.Kv) => Effect.Effect<unknown, KvError.KvError>> = [
  (kv) => kv.put("k", "stale"),
  (kv) => kv.delete("k"),
  (kv) => kv.deleteRange(KeyRange.prefix("k")),
  (kv) => kv.txn({ then: [Op.put("k", "stale"), Op.put("new", "stale")] }),
  (kv) => kv.txn({ if: [Compare.exists("nothing")], else: [Op.put("k", "stale")] }),
  (kv) => kv.txn({ then: [Op.txn({ then: [Op.delete("k")] })] }),
  (kv) => kv.testAndSet("k", Option.some("1"), "stale"),
  (kv) =>
    Effect.flatMap(kv.getEntry("k"), (entry) => kv.compareAndSet("k", Option.getOrThrow(entry).modRevision, "stale")),
  (kv) => kv.modify("k", () => "stale")
]

/** A client that does not notice the loss of its locks, because its watches only see the key `k`. */
export const blindClient: Effect.Effect<Kv.Kv, unknown, Environment> = Effect.suspend(() => {
  const blind = faults.make()
  const isOfK = ({ request }: faults.Call) => request !== undefined && KeyRange.contains(request.range, "k")
  blind.before = (call) => call.kind === "watch" && !isOfK(call) ? Effect.never : Effect.void
  return faults.newClientWith(blind)
})

/**
 * A stale holder: another client holds its lock now, and it has noticed neither the deletion of its key nor the end of its
 * lease, as after a long pause.
 */
export const staleHolder = Effect.fnUntraced(function*(kv: Kv.Kv, name: string) {
  const blind = faults.make()
  const client = yield* faults.newClientWith(blind)
  const { lock } = yield* hold(client, name, { ttl: "1 hour" })
  blind.before = (call) => call.kind === "execute" ? Effect.void : Effect.never
  yield* kv.delete(lock.key)
  const next = yield* hold(yield* newClient, name)
  assert.isTrue(next.lock.token > lock.token)
  assert.isTrue(yield* lock.isHeld, "the stale holder has not noticed the loss")
  return { client, lock }
})

/** The results of one write under a lock: while the lock is held, and after an unnoticed loss. */
export interface Tried {
  readonly token: bigint
  readonly held: Exit.Exit<unknown, unknown>
  readonly lost: Exit.Exit<unknown, unknown>
  /** The exit of the body. */
  readonly end: Exit.Exit<unknown, DistLock.LockFailure>
}

/** Writes the value to the key `k`. */
export type Write<R = never> = (value: string) => Effect.Effect<unknown, unknown, R>

/** Makes a write under a lock of the client, before and after the loss. */
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
  const end = yield* DistLock.use(name, (lock) =>
    Effect.uninterruptible(Effect.gen(function*() {
      token = lock.token
      held = yield* Effect.exit(write("held"))
      // Deleted by a client without a fence.
      yield* kv.deleteRange(KeyRange.prefix(""))
      lost = yield* Effect.exit(write("stale"))
    })), options).pipe(on(client), Effect.exit)
  return { token, held, lost, end } satisfies Tried
})

/** Asserts that the write is fenced: applied while the lock is held, rejected after its loss. */
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

/** Asserts that the write is not fenced: it is applied even after the loss of the lock. */
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

/** Asserts that the fence of the lock with this token has rejected the write. */
export const isRejectedBy = (token: bigint, exit: Exit.Exit<unknown, unknown>, what: string): string => {
  const error = errorOf(exit)
  if (!KvError.isKvError(error) || error.reason._tag !== "LockLost") assert.fail(`${what}: ${String(exit)}`)
  assert.strictEqual(error.reason.token, token, what)
  assert.strictEqual(error.outcome, "NotApplied", what)
  return error.message
}
