/**
 * Interruptions of locks. Whichever step of an acquisition, wait or release is interrupted, times out or loses its response,
 * nothing is left behind: no key, lease, watch or call. Another client can acquire the lock.
 */
import type * as Compare from "@effect-kv/core/Compare"
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as TempKey from "@effect-kv/core/TempKey"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { chapter, type Environment, Store, test, waitingTest, waitUntil } from "./Case.ts"
import { textOf } from "./entries.ts"
import * as faults from "./faults.ts"
import { hold, isFree, on, soon } from "./locking.ts"

/** The step of an attempt to interrupt: before its n-th call is sent, or after the response to it. */
interface Point {
  readonly way: "free" | "contended"
  readonly when: "before" | "after"
  readonly n: number
}

/** More calls than any attempt makes. */
const manySteps = 8

const points = (["free", "contended"] as const).flatMap((way) =>
  (["before", "after"] as const).flatMap((when) =>
    Array.from({ length: manySteps }, (_, i): Point => ({ way, when, n: i + 1 }))
  )
)

/** What is struck. */
interface Way {
  readonly attempt: (
    kv: Kv.Kv,
    name: string,
    scope: Scope.Scope
  ) => Effect.Effect<unknown, DistLock.LockFailure>
  readonly steps: Record<Point["way"], number>
}

/** Acquires and releases a lock. Free: grant, enter, remove. Contended: also a watch and two reads before the removal. */
const withBody = (options?: DistLock.Options): Way => ({
  attempt: (kv, name) => on(kv)(DistLock.withDistLock(Effect.void, name, options)),
  steps: { free: 3, contended: 6 }
})

/** Acquires a lock until the scope closes. */
const untilScopeCloses: Way = {
  attempt: (kv, name, scope) => on(kv)(Scope.provide(DistLock.acquire(name), scope)),
  steps: { free: 2, contended: 5 }
}

/** Acquires a lock only if it is free. Free: grant, enter, remove. Contended: grant, and a transaction without writes. */
const trying: Way = {
  attempt: (kv, name) => on(kv)(Effect.scoped(DistLock.tryAcquire(name))),
  steps: { free: 3, contended: 2 }
}

/** The same for several locks, one of which is contended: they are entered and left together. */
const tryingSeveral: Way = {
  attempt: (kv, name) => on(kv)(Effect.scoped(DistLock.tryAcquire([name, `${name}.2`, `${name}.3`]))),
  steps: { free: 5, contended: 2 }
}

/** Calls in a fixed order: not those that are made by timers. */
const isStep = (call: faults.Call) =>
  call.kind === "leaseGrant" || call.kind === "execute" ||
  call.kind === "watch" && call.request?.startRevision === undefined

interface Attempt {
  readonly name: string
  readonly faults: faults.Faults
  readonly fiber: Fiber.Fiber<unknown, DistLock.LockFailure>
  readonly scope: Scope.Closeable
  /** Releases the lock that the attempt waits for, if any. */
  readonly release: Effect.Effect<void>
  isStruck: boolean
}

/** Starts an attempt, and returns it when it has reached the step or ended. */
const begin = Effect.fnUntraced(function*(
  kv: Kv.Kv,
  name: string,
  { n, way, when }: Point,
  { attempt }: Way,
  strike: (call: faults.Call) => Effect.Effect<void, KvError>
): Effect.fn.Return<Attempt, unknown, Environment> {
  const seen = faults.make()
  const client = yield* faults.newClientWith(seen)
  const held = way === "contended" ? yield* hold(kv, name) : undefined
  let step = 0
  let isStruck = false
  seen[when] = (call) => {
    // A grant is sent again if a slow store does not respond within a second. That is not a step of its own.
    const isHedge = call.kind === "leaseGrant" && call.lease !== seen.leases[0]
    if (!isStep(call) || isHedge || ++step !== n) return Effect.void
    isStruck = true
    return strike(call)
  }
  const scope = yield* Scope.fork(yield* Effect.scope)
  const fiber = yield* Effect.forkScoped(attempt(client, name, scope))
  const isOver = () => isStruck || fiber.pollUnsafe() !== undefined
  const waits = () => step === 4 && seen.pending === 0
  yield* soon(`${name} waits, is struck or ends`, Effect.sync(() => isOver() || waits()))
  if (!isOver() && held !== undefined) yield* held.release
  yield* soon(`${name} is struck or ends`, Effect.sync(isOver))
  return { name, faults: seen, fiber, scope, release: held?.release ?? Effect.void, isStruck }
})

/** Fails unless the attempt has left nothing behind, in the store and in its client. */
const nothingIsLeft = Effect.fnUntraced(function*(kv: Kv.Kv, { faults, fiber, name }: Attempt) {
  yield* waitUntil(`${name} has ended`, Effect.sync(() => fiber.pollUnsafe() !== undefined))
  const exit = fiber.pollUnsafe()!
  assert.isFalse(Exit.isFailure(exit) && Exit.hasDies(exit), String(exit))
  yield* waitUntil(
    `${name}: the session without users ends`,
    Effect.sync(() => faults.calls.filter((call) => call.kind === "leaseRevoke").length >= faults.leases.length)
  )
  yield* waitUntil(
    `${name}: no calls or watches are left`,
    Effect.sync(() => faults.pending === 0 && faults.watches === 0)
  )
  // A grant that arrives after its revocation is revoked again.
  for (const lease of faults.leases) {
    yield* waitUntil(
      `${name}: its lease is revoked`,
      Effect.map(Effect.exit(backendOf(kv).leaseTimeToLive(lease)), Exit.isFailure),
      8
    )
  }
  yield* isFree(kv, name)
})

/** Stops an attempt at each step, calls `resolve` on all of them, then checks what is left. */
const atEachPoint = Effect.fnUntraced(function*(
  kv: Kv.Kv,
  kind: string,
  way: Way,
  strike: (call: faults.Call) => Effect.Effect<void, KvError>,
  resolve: (attempts: ReadonlyArray<Attempt>) => Effect.Effect<unknown, unknown, Environment>
) {
  const attempts = yield* Effect.forEach(
    points,
    (point) => begin(kv, `${kind}/${point.way}/${point.when}/${point.n}`, point, way, strike),
    { concurrency: 4 }
  )
  assert.deepStrictEqual(
    attempts.map((attempt) => attempt.isStruck),
    points.map((point) => point.n <= way.steps[point.way]),
    "every step of every attempt was reached"
  )
  yield* resolve(attempts)
  yield* Effect.forEach(attempts, (attempt) => attempt.release)
  yield* Effect.forEach(attempts, (attempt) => nothingIsLeft(kv, attempt))
  assert.strictEqual(yield* kv.count(KeyRange.prefix(`${kind}/`)), 0)
})

export const cases = chapter("interrupting locks", [
  waitingTest("an acquisition that is interrupted at any step leaves nothing behind", function*(kv) {
    const barrier = yield* faults.barrier
    yield* atEachPoint(kv, "interrupted", withBody(), () => barrier.stop, (attempts) =>
      Effect.gen(function*() {
        for (const { fiber } of attempts) yield* Effect.forkScoped(Fiber.interrupt(fiber))
        yield* Effect.yieldNow
        yield* barrier.letGo
      }))
  }),

  ...Object.entries({ trying, tryingSeveral }).map(([kind, way]) =>
    waitingTest(
      `a tryAcquire${
        way === trying ? "" : " of several locks"
      } that is interrupted or loses a response at any step leaves nothing behind`,
      function*(kv) {
        const barrier = yield* faults.barrier
        yield* atEachPoint(kv, kind, way, () => barrier.stop, (attempts) =>
          Effect.gen(function*() {
            for (const { fiber } of attempts) yield* Effect.forkScoped(Fiber.interrupt(fiber))
            yield* Effect.yieldNow
            yield* barrier.letGo
          }))
        yield* atEachPoint(kv, `${kind}-lost`, way, () => faults.lostResponse, () => Effect.void)
      }
    )
  ),

  waitingTest(
    "an acquisition that is interrupted while the store does not respond ends within a second",
    function*(kv) {
      const barrier = yield* faults.barrier
      const store = yield* Store
      yield* atEachPoint(kv, "no-response", withBody(), () => barrier.stop, (attempts) =>
        Effect.gen(function*() {
          for (const { fiber } of attempts) yield* Effect.forkScoped(Fiber.interrupt(fiber))
          yield* store.passTime("1500 millis")
          for (const { fiber, name } of attempts) assert.isDefined(fiber.pollUnsafe(), name)
          yield* barrier.letGo
        }))
    }
  ),

  waitingTest(
    "an acquisition whose scope closes at any step ends, holds nothing and leaves nothing behind",
    function*(kv) {
      const barrier = yield* faults.barrier
      yield* atEachPoint(kv, "closed", untilScopeCloses, () => barrier.stop, (attempts) =>
        Effect.gen(function*() {
          for (const { scope } of attempts) yield* Effect.forkScoped(Scope.close(scope, Exit.void))
          yield* Effect.yieldNow
          yield* barrier.letGo
        }))
    }
  ),

  waitingTest("an acquisition that times out at any step leaves nothing behind", function*(kv) {
    const barrier = yield* faults.barrier
    const store = yield* Store
    yield* atEachPoint(
      kv,
      "timed-out",
      withBody({ acquireTimeout: "20 seconds" }),
      () => barrier.stop,
      () =>
        Effect.gen(function*() {
          yield* store.passTime("22 seconds")
          yield* barrier.letGo
        })
    )
  }),

  waitingTest("an acquisition that loses a response at any step leaves nothing behind", function*(kv) {
    const lost = (call: faults.Call) =>
      faults.isEntry(call) || faults.isRemoval(call) || call.kind === "leaseGrant"
        ? faults.lostResponse
        : faults.unavailable
    yield* atEachPoint(kv, "lost", withBody(), lost, () => Effect.void)
  }),

  waitingTest(
    "a lock released while the store is unreachable is free once it is back, before its lease ends",
    function*(kv) {
      const store = yield* Store
      const cut = faults.make()
      const client = yield* faults.newClientWith(cut)
      const held = yield* hold(client, "away/held", { ttl: "1 hour" })
      const key = yield* Scope.make()
      yield* Scope.provide(on(client)(TempKey.make("away/key/1", { ttl: "1 hour" })), key)
      // The response to one more release attempt is lost: it was executed, and the client does not know.
      cut.after = (call) => faults.isEntry(call) ? faults.lostResponse : Effect.void
      cut.before = (call) => faults.isEntry(call) ? Effect.void : faults.unavailable
      const unknown = yield* Effect.forkScoped(
        on(client)(DistLock.withDistLock(Effect.void, "away/unknown", { ttl: "1 hour" }))
      )
      const ends = [held.release, Scope.close(key, Exit.void), Fiber.await(unknown)]
      const ending = yield* Effect.forkScoped(Effect.all(ends, { concurrency: "unbounded" }))
      yield* store.passTime("8 seconds")
      assert.isDefined(ending.pollUnsafe(), "the release does not wait for the store")
      assert.strictEqual(yield* kv.count(KeyRange.prefix("away/")), 3)
      cut.before = () => Effect.void
      yield* waitUntil(
        "all keys are deleted",
        Effect.map(kv.count(KeyRange.prefix("away/")), (count) => count === 0),
        8
      )
      yield* waitUntil(
        "the session ends",
        Effect.map(Effect.exit(backendOf(kv).leaseTimeToLive(cut.leases[0]!)), Exit.isFailure)
      )
      yield* isFree(kv, "away/held")
      yield* isFree(kv, "away/unknown")
    }
  ),

  test("a queue entry that reaches the store after its attempt was cancelled is removed", function*(kv) {
    const name = "late"
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    yield* hold(client, "late.keeps-the-session")
    seen.before = (call) => faults.isEntry(call) ? faults.lostResponse : Effect.void
    const error = yield* Effect.flip(on(client)(DistLock.withDistLock(Effect.void, name)))
    assert.strictEqual(error._tag === "KvError" && error.reason._tag, "Unavailable")
    yield* isFree(kv, name)
    const entry = seen.calls.findLast(faults.isEntry)!
    assert.isTrue((yield* backendOf(kv).execute(entry.op!))._tag === "Txn")
    yield* soon("it is removed", Effect.map(kv.count(KeyRange.prefix(`${name}/`)), (count) => count === 0))
    seen.before = () => Effect.void
    const again = yield* hold(client, name)
    assert.isTrue(yield* again.lock.isHeld)
    assert.strictEqual(seen.leases.length, 2, "later users have another session, so this one can end")
    yield* again.release
    // Only our own entry is removed, not another key of the same name.
    const key = entry.op!._tag === "Txn" ? (entry.op!.if[0] as Compare.OfKey).key : ""
    yield* kv.put(key, "another client's")
    yield* Effect.flatMap(Store, (store) => store.passTime("1 second"))
    assert.strictEqual(yield* textOf(kv, key), "another client's")
  })
])
