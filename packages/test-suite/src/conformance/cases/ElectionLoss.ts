/**
 * Lost leaderships: by revocation, outage, silence or a body that hangs. The next leader begins after the last has ended.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as DistLock from "@effect-kv/core/DistLock"
import * as Election from "@effect-kv/core/Election"
import * as Fence from "@effect-kv/core/Fence"
import * as KvError from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { chapter, newClient, promptly, reasonOf, Store, waitingTest, waitUntil } from "./Case.ts"
import { candidate, isVacant, lead, token, values } from "./electing.ts"
import { entryOf, textOf } from "./entries.ts"
import * as faults from "./faults.ts"
import { exitOf, failedWith, on, untilContenders } from "./locking.ts"
import { capturing } from "./logging.ts"

export const cases = chapter("elections", [
  waitingTest("a proclaimed value and the token survive the move to another lease", function*(kv) {
    const name = "election/move"
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    const leadership = yield* lead(client, name, { value: "1" })
    yield* leadership.proclaim("2")
    const [lease] = seen.leases
    seen.before = (call) =>
      call.kind === "leaseKeepAlive" && call.lease === lease
        ? KvError.fail(new KvError.PermissionDenied({ message: "a test fault" }))
        : Effect.void
    yield* waitUntil(
      "the key is on another lease",
      Effect.map(entryOf(kv, leadership.key), (entry) => !Option.contains(entry.lease, lease))
    )
    const moved = yield* entryOf(kv, leadership.key)
    assert.deepStrictEqual([moved.lossyText, moved.createRevision], ["2", leadership.token])
    yield* leadership.proclaim("3")
    const proclaimed = yield* entryOf(kv, leadership.key)
    assert.deepStrictEqual([proclaimed.lossyText, proclaimed.lease], ["3", moved.lease])
    const store = yield* Store
    yield* store.passTime("12 seconds")
    assert.isTrue(yield* leadership.isLeader, "the old lease does not take the key with it")
    assert.deepStrictEqual(yield* values(kv, name), ["3"])
    yield* leadership.resign
    yield* isVacant(kv, name)
  }),

  waitingTest("the loss of a leadership is reported and logged as one of an election", function*(kv) {
    const store = yield* Store
    const { layer, logged } = capturing()
    yield* Effect.gen(function*() {
      const name = "election/wording"
      const client = yield* newClient
      const leadership = yield* lead(client, `${name}/a`)
      const late = yield* Effect.flip(Effect.scoped(on(kv)(Election.campaign(`${name}/a`, { acquireTimeout: 0 }))))
      assert.match(late.message, /^the leadership of "election\/wording\/a" could not be acquired within /)
      const alsoLate = yield* Effect.flip(on(kv)(Election.use(`${name}/a`, () => Effect.void, { acquireTimeout: 0 })))
      assert.match(alsoLate.message, /^the leadership of "election\/wording\/a" could not be acquired within /)
      yield* store.passTime("500 millis")
      yield* kv.delete(leadership.key)
      const lost = yield* promptly("the loss", Effect.flip(leadership.lost))
      const { token } = leadership
      assert.strictEqual(lost.kind, "leadership")
      assert.strictEqual(
        lost.message,
        `the leadership of "election/wording/a" (token ${token}) was lost: its key was deleted`
      )
      yield* waitUntil("the loss is logged", Effect.sync(() => logged.length > 0))
      assert.deepStrictEqual(logged, [{
        level: "Warn",
        message: "effect-kv: a leadership was lost",
        annotations: { election: `${name}/a`, token: `${token}`, reason: "its key was deleted" }
      }])
      const other = yield* lead(client, `${name}/b`, { ttl: "1 hour" })
      const lock = yield* promptly("a lock", on(client)(DistLock.acquire(`${name}/c`, { ttl: "1 hour" })))
      const { lease } = yield* entryOf(kv, other.key)
      yield* store.passTime("500 millis")
      yield* backendOf(kv).leaseRevoke(Option.getOrThrow(lease))
      yield* promptly("the second loss", Effect.flip(other.lost))
      yield* waitUntil("the loss of the session is logged", Effect.sync(() => logged.length > 1))
      assert.deepInclude(logged[1]?.annotations, {
        lock: lock.name,
        election: `${name}/b`,
        token: `${other.token}, ${lock.token}`
      })
    }).pipe(Effect.provide(layer))
  }),

  waitingTest("a candidate whose lease is revoked fails while another leads, and never leads itself", function*(kv) {
    const name = "election/keyless"
    const leader = yield* lead(kv, name)
    let hasLed = false
    const waiting = yield* candidate(yield* newClient, name, () => Effect.sync(() => hasLed = true))
    const [, second] = yield* on(kv)(Election.candidates(name))
    yield* backendOf(kv).leaseRevoke(Option.getOrThrow(second!.lease))
    failedWith(yield* exitOf("the candidate fails within a second", waiting, 5), "LockLost")
    assert.isTrue(yield* leader.isLeader)
    yield* leader.resign
    yield* isVacant(kv, name)
    assert.isFalse(hasLed)
  }),

  waitingTest("a candidate that leaves the middle of the queue does not let the next one lead", function*(kv) {
    const name = "election/middle"
    const leader = yield* lead(kv, name)
    let hasLed = false
    const body = () => Effect.sync(() => hasLed = true)
    const leaving = yield* candidate(yield* newClient, name, body)
    const dying = yield* candidate(yield* newClient, name, body)
    const last = yield* candidate(yield* newClient, name, token)
    yield* Fiber.interrupt(leaving)
    yield* untilContenders(kv, name, 3)
    const lease = (yield* on(kv)(Election.candidates(name)))[1]!.lease
    yield* backendOf(kv).leaseRevoke(Option.getOrThrow(lease))
    failedWith(yield* exitOf("the loss", dying), "LockLost")
    yield* untilContenders(kv, name, 2)
    const store = yield* Store
    yield* store.passTime("1 second")
    assert.strictEqual(last.pollUnsafe(), undefined)
    yield* leader.resign
    assert.isTrue((yield* promptly("the last leads", Fiber.join(last))) > leader.token)
    assert.isFalse(hasLed, "the body of a candidate that never led does not run")
    yield* isVacant(kv, name)
  }),

  waitingTest("a candidate keeps waiting through a compaction and an outage", function*(kv) {
    const name = "election/compacted"
    const store = yield* Store
    const leader = yield* lead(kv, name)
    const cut = faults.make()
    cut.before = (call) => call.kind === "watch" ? faults.unavailable : Effect.void
    const waiting = yield* candidate(yield* faults.newClientWith(cut), name, token)
    const { revision } = yield* kv.put(`${name}.other`, "1")
    yield* store.compact(revision)
    yield* store.passTime("1 second")
    cut.before = () => Effect.void
    yield* store.passTime("1 second")
    assert.strictEqual(waiting.pollUnsafe(), undefined)
    yield* leader.resign
    yield* promptly("it leads", Fiber.join(waiting))
  }),

  waitingTest(
    "a leader that resigns during an outage is gone once the store is back, before its lease ends",
    function*(kv) {
      const name = "election/resigned"
      const store = yield* Store
      const cut = faults.make()
      const leadership = yield* lead(yield* faults.newClientWith(cut), name, { ttl: "1 hour" })
      const next = yield* candidate(kv, name, token)
      cut.before = () => faults.unavailable
      const resigning = yield* Effect.forkScoped(Effect.andThen(leadership.resign, leadership.resign))
      yield* store.passTime("5 seconds")
      assert.isDefined(resigning.pollUnsafe(), "a resignation does not wait for the store")
      assert.strictEqual(next.pollUnsafe(), undefined)
      cut.before = () => Effect.void
      assert.isTrue(Exit.isSuccess(yield* exitOf("the next leads", next, 8)))
      yield* isVacant(kv, name)
    }
  ),

  waitingTest("a leader that cannot renew is interrupted before another candidate leads", function*(kv) {
    const name = "election/cut-off"
    const cut = faults.make()
    const client = yield* faults.newClientWith(cut)
    const leader = yield* candidate(
      client,
      name,
      // One transaction looks and notes: a read of the history could be compacted by a case that runs concurrently.
      ({ key }) =>
        Effect.onInterrupt(Effect.never, () =>
          Fence.unfenced(Effect.orDie(kv.txn({
            if: [Compare.exists(key)],
            then: [Op.put(`${name}.at-loss`, "exists")],
            else: [Op.put(`${name}.at-loss`, "deleted")]
          })))),
      { ttl: "3 seconds" }
    )
    const next = yield* candidate(kv, name, token)
    cut.before = (call) => call.kind === "leaseKeepAlive" ? faults.unavailable : Effect.void
    failedWith(yield* exitOf("the loss", leader), "LockLost")
    assert.strictEqual(yield* textOf(kv, `${name}.at-loss`), "exists", "the key at the moment of the loss")
    assert.isTrue(Exit.isSuccess(yield* exitOf("the next leads", next)))
  }),

  waitingTest(
    "a leader is interrupted if the store renews its lease and the responses never arrive, before the next one leads",
    function*(kv) {
      const name = "election/no-response"
      const silent = faults.make()
      let hasNextLed = false
      let hadNextLed: boolean | undefined
      const leader = yield* candidate(
        yield* faults.newClientWith(silent),
        name,
        () => Effect.onInterrupt(Effect.never, () => Effect.sync(() => hadNextLed = hasNextLed)),
        { ttl: "3 seconds" }
      )
      const next = yield* candidate(kv, name, () => Effect.sync(() => hasNextLed = true))
      let renewals = 0
      silent.after = (call) =>
        call.kind === "leaseKeepAlive"
          ? Effect.andThen(Effect.sync(() => renewals++), Effect.never)
          : Effect.void
      failedWith(yield* exitOf("the loss", leader), "LockLost")
      assert.isAtLeast(renewals, 1, "the store has renewed the lease")
      assert.strictEqual(hadNextLed, false)
      assert.isTrue(Exit.isSuccess(yield* exitOf("the next leads", next)))
    }
  ),

  waitingTest("a leader whose lease ended during an outage does not lead when the store is back", function*(kv) {
    const name = "election/expired"
    const store = yield* Store
    const cut = faults.make()
    const leadership = yield* lead(yield* faults.newClientWith(cut), name, { ttl: "3 seconds" })
    const next = yield* lead(kv, `${name}.other`)
    cut.before = () => Effect.andThen(Effect.sleep("100 millis"), faults.unavailable)
    yield* waitUntil("its lease ends", Effect.map(on(kv)(Election.leader(name)), Option.isNone))
    assert.isFalse(yield* leadership.isLeader)
    cut.before = () => Effect.void
    yield* store.passTime("1 second")
    assert.isFalse(yield* leadership.isLeader)
    assert.strictEqual((yield* reasonOf(leadership.proclaim("late")))._tag, "LockLost")
    assert.deepStrictEqual(yield* on(kv)(Election.leader(name)), Option.none())
    yield* next.resign
  }),

  waitingTest("the next leader begins after the finalizers of the last", function*(kv) {
    const name = "election/finalizers"
    const order: Array<string> = []
    const leader = yield* candidate(
      kv,
      name,
      () =>
        Effect.onExit(
          Effect.never,
          () => Effect.andThen(Effect.sleep("2 seconds"), Effect.sync(() => order.push("ended")))
        )
    )
    const next = yield* candidate(yield* newClient, name, () => Effect.sync(() => order.push("next")))
    yield* Effect.forkScoped(Fiber.interrupt(leader))
    yield* exitOf("the next leads", next)
    assert.deepStrictEqual(order, ["ended", "next"])
  }),

  waitingTest(
    "a leader whose health check fails or hangs gives its leadership up, and finalizers run while it leads",
    function*(kv) {
      const name = "election/health"
      const [isHealthy, hangs] = [
        Effect.suspend(() => healthy ? Effect.void : Effect.fail("sick")),
        Effect.suspend(() => healthy ? Effect.void : Effect.uninterruptible(Effect.never))
      ]
      let healthy = true
      for (const [check, how] of [[isHealthy, "Failed"], [hangs, "TimedOut"]] as const) {
        healthy = true
        let checks = 0
        const store = yield* Store
        const leader = yield* candidate(
          kv,
          name,
          () => Effect.ensuring(Effect.never, Effect.orDie(kv.put(`${name}.ended`, how))),
          { health: { check: Effect.andThen(Effect.sync(() => checks++), check), interval: "1 second" } }
        )
        yield* waitUntil("several checks", Effect.sync(() => checks >= 3))
        yield* store.passTime("1 second")
        assert.isUndefined(leader.pollUnsafe())
        const next = yield* candidate(yield* newClient, name, token)
        healthy = false
        const error = failedWith(yield* exitOf("it gives up", leader), "UnhealthyLeader")
        assert.deepStrictEqual([error.election, error.how], [name, how])
        assert.strictEqual(yield* textOf(kv, `${name}.ended`), how, "the fenced write of its finalizer was accepted")
        assert.isTrue(Exit.isSuccess(yield* exitOf("the next leads", next)))
      }
    }
  ),

  waitingTest("a body that hangs while renewals succeed gives its leadership up after maxHold", function*(kv) {
    const name = "election/hangs"
    const leader = yield* candidate(kv, name, () => Effect.never, { maxHold: "2 seconds" })
    const next = yield* candidate(yield* newClient, name, token)
    failedWith(yield* exitOf("the end of the hold", leader), "LockHoldExceeded")
    assert.isTrue(Exit.isSuccess(yield* exitOf("the next leads", next)))
  })
])
