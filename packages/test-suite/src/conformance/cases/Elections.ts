/**
 * Elections: one leader at a time, in order of arrival, with a value that all can see and a stream of its changes.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as Election from "@effect-kv/core/Election"
import * as Fence from "@effect-kv/core/Fence"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { chapter, newClient, promptly, reasonOf, revisionOf, Store, test, waitingTest, waitUntil } from "./Case.ts"
import { entryOf, textOf } from "./entries.ts"
import * as faults from "./faults.ts"
import { exitOf, failedWith, on, soon, untilContenders } from "./locking.ts"

/** Campaigns, and returns once it leads. */
const lead = (kv: Kv.Kv, name: string, options?: Election.CampaignOptions) =>
  promptly(`the leadership of ${name}`, on(kv)(Election.campaign(name, options)))

/** Starts a candidate in the background, and returns once it is in the queue. */
const candidate = Effect.fnUntraced(function*<A, E>(
  kv: Kv.Kv,
  name: string,
  f: (leadership: Election.Leadership) => Effect.Effect<A, E, Kv.Kv>,
  options?: Election.Options
): Effect.fn.Return<Fiber.Fiber<A, E | Election.Failure>, KvError.KvError, Scope.Scope> {
  const before = (yield* on(kv)(Election.candidates(name))).length
  const fiber = yield* Effect.forkScoped(on(kv)(Election.withLeadership(name, f, options)))
  yield* untilContenders(kv, name, before + 1)
  return fiber
})

const token = (leadership: Election.Leadership) => Effect.succeed(leadership.token)

/** The values of all candidates, the leader's first. */
const values = (kv: Kv.Kv, name: string) =>
  Effect.map(on(kv)(Election.candidates(name)), (all) => all.map(({ value }) => value))

/** Follows an election. Each leader is recorded as its value, and a vacancy as `none`. */
const follow = Effect.fnUntraced(function*(kv: Kv.Kv, name: string) {
  const seen: Array<string> = []
  const fiber = yield* Election.observe(name).pipe(
    Stream.runForEach((leader) =>
      Effect.sync(() => seen.push(Option.match(leader, { onNone: () => "none", onSome: ({ value }) => value })))
    ),
    on(kv),
    Effect.forkScoped
  )
  const until = (...expected: ReadonlyArray<string>) =>
    Effect.andThen(
      soon(
        `${expected.length} leaders are seen, not ${seen.join()}`,
        Effect.sync(() => seen.length >= expected.length)
      ),
      Effect.sync(() => assert.deepStrictEqual(seen, [...expected]))
    )
  yield* soon("the first leader is seen", Effect.sync(() => seen.length > 0))
  return { seen, until, fiber }
})

const leaseOfLeader = (kv: Kv.Kv, name: string) =>
  Effect.map(on(kv)(Election.leader(name)), (leader) => Option.getOrThrow(Option.getOrThrow(leader).lease))

/** Asserts that no candidate and no key is left. */
const isVacant = Effect.fnUntraced(function*(kv: Kv.Kv, name: string) {
  yield* soon(`${name} has no key`, Effect.map(kv.count(KeyRange.prefix(`${name}/`)), (count) => count === 0))
  assert.deepStrictEqual(yield* on(kv)(Election.leader(name)), Option.none())
})

export const cases = chapter("elections", [
  test(
    "the leader's key is the election's name, a slash and the lease in hexadecimal, as in Go's Election",
    function*(kv) {
      const leadership = yield* lead(kv, "jobs/billing", { value: "10.0.0.7:80" })
      const entry = yield* entryOf(kv, leadership.key)
      const lease = Option.getOrThrow(entry.lease)
      assert.strictEqual(leadership.key, `jobs/billing/${lease.toString(16)}`)
      assert.strictEqual(leadership.token, entry.createRevision)
      assert.strictEqual(leadership.name, "jobs/billing")
      const leader = Option.getOrThrow(yield* on(kv)(Election.leader("jobs/billing")))
      assert.deepStrictEqual({ ...leader }, {
        key: leadership.key,
        token: leadership.token,
        lease: Option.some(lease),
        value: "10.0.0.7:80",
        revision: leadership.token
      })
      assert.isTrue(yield* leadership.isLeader)
      yield* leadership.resign
      assert.isFalse(yield* leadership.isLeader)
      assert.strictEqual(yield* kv.count(KeyRange.all), 0)
      failedWith(yield* Effect.exit(leadership.lost), "LockLost")
    }
  ),

  test("a campaign without other candidates is one request, and so is its resignation", function*(kv) {
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    yield* lead(client, "keeps-the-session")
    seen.calls.length = 0
    const { resign } = yield* lead(client, "e")
    yield* resign
    assert.deepStrictEqual(seen.calls.map((call) => call.op?._tag ?? call.kind), ["Txn", "Txn"])
    yield* isVacant(kv, "e")
  }),

  test("candidates lead one at a time, in order of arrival, each with a larger token", function*(kv) {
    const clients = [kv, yield* newClient, yield* newClient]
    const first = yield* lead(kv, "e", { value: "0" })
    const led: Array<number> = []
    const fibers = []
    for (let i = 1; i < 6; i++) {
      fibers.push(
        yield* candidate(
          clients[i % 3]!,
          "e",
          (leadership) => Effect.andThen(Effect.sync(() => led.push(i)), token(leadership)),
          { value: `${i}` }
        )
      )
    }
    assert.deepStrictEqual(yield* values(kv, "e"), ["0", "1", "2", "3", "4", "5"])
    assert.deepStrictEqual(led, [])
    yield* first.resign
    const tokens = [first.token, ...(yield* promptly("all lead", Fiber.joinAll(fibers)))]
    assert.deepStrictEqual(led, [1, 2, 3, 4, 5])
    assert.deepStrictEqual(tokens, tokens.toSorted((a, b) => Number(a - b)))
    yield* isVacant(kv, "e")
  }),

  test("two fibers of one client are two candidates, and neither overwrites the other's value", function*(kv) {
    const first = yield* lead(kv, "e", { value: "first" })
    const second = yield* candidate(kv, "e", token, { value: "second" })
    assert.deepStrictEqual(yield* values(kv, "e"), ["first", "second"])
    yield* first.proclaim("first, again")
    assert.deepStrictEqual(yield* values(kv, "e"), ["first, again", "second"])
    yield* first.resign
    assert.isTrue((yield* Fiber.join(second)) > first.token)
  }),

  test("elections whose names extend each other do not interfere", function*(kv) {
    const names = ["jobs", "jobs2", "jobs/2"]
    const observers = []
    for (const name of names) observers.push(yield* follow(kv, name))
    const leaders = []
    for (const name of ["jobs/2", "jobs2", "jobs"]) leaders.push(yield* lead(kv, name, { value: name }))
    for (const [i, name] of names.entries()) {
      assert.deepStrictEqual(yield* values(kv, name), [name])
      yield* observers[i]!.until("none", name)
    }
    for (const leader of leaders) yield* leader.resign
    for (const [i, name] of names.entries()) yield* observers[i]!.until("none", name, "none")
  }),

  test("in a namespace a campaign, its leader and its observers are of one election", function*(kv) {
    const app = Kv.prefixed(kv, "app/")
    const observer = yield* follow(app, "e")
    const outside = yield* follow(kv, "app/e")
    const leadership = yield* lead(app, "e", { value: "inside" })
    assert.deepStrictEqual(yield* values(app, "e"), ["inside"])
    assert.deepStrictEqual(yield* values(kv, "app/e"), ["inside"])
    assert.deepStrictEqual(yield* values(kv, "e"), [])
    assert.strictEqual(Option.getOrThrow(yield* on(app)(Election.leader("e"))).key, leadership.key)
    yield* leadership.proclaim("changed")
    for (const { until } of [observer, outside]) yield* until("none", "inside", "changed")
  }),

  test("an election and a lock of one name exclude each other", function*(kv) {
    const leadership = yield* lead(kv, "e", { value: "leader" })
    assert.isTrue(Option.isNone(yield* Effect.scoped(on(kv)(DistLock.tryAcquire("e")))))
    yield* leadership.resign
    assert.isTrue(Option.isSome(yield* Effect.scoped(on(kv)(DistLock.tryAcquire("e")))))
  }),

  test("a proclamation changes the value and keeps the key, its token and its lease", function*(kv) {
    const leadership = yield* lead(kv, "e", { value: "1" })
    const before = yield* entryOf(kv, leadership.key)
    const revision = yield* leadership.proclaim("2")
    const after = yield* entryOf(kv, leadership.key)
    assert.deepStrictEqual(
      [after.lossyText, after.createRevision, after.modRevision, after.lease],
      ["2", before.createRevision, revision, before.lease]
    )
    yield* leadership.proclaim("3")
    assert.deepStrictEqual(yield* values(kv, "e"), ["3"])
    yield* leadership.resign
    yield* isVacant(kv, "e")
  }),

  test("a proclamation after the leadership ended fails with LockLost and changes nothing", function*(kv) {
    const resigned = yield* lead(kv, "resigned")
    yield* resigned.resign
    const { revision } = yield* kv.put("something", "1")
    assert.strictEqual((yield* reasonOf(resigned.proclaim("late")))._tag, "LockLost")
    assert.strictEqual(yield* revisionOf(kv), revision)

    // The key is another's by now, and the leader does not know.
    const deaf = faults.make()
    deaf.before = (call) => call.kind === "watch" ? faults.unavailable : Effect.void
    const replaced = yield* lead(yield* faults.newClientWith(deaf), "replaced", { value: "ours" })
    yield* kv.delete(replaced.key)
    yield* kv.put(replaced.key, "foreign")
    assert.isTrue(yield* replaced.isLeader)
    assert.strictEqual((yield* reasonOf(replaced.proclaim("late")))._tag, "LockLost")
    assert.strictEqual(yield* textOf(kv, replaced.key), "foreign")
    assert.isFalse(yield* replaced.isLeader)
    failedWith(yield* Effect.exit(replaced.lost), "LockLost")
  }),

  test("a proclamation that reaches the store late does not replace one that was made after it", function*(kv) {
    const seen = faults.make()
    const leadership = yield* lead(yield* faults.newClientWith(seen), "e", { value: "1" })
    seen.before = (call) => faults.isEntry(call) ? faults.lostAnswer : Effect.void
    assert.strictEqual((yield* reasonOf(leadership.proclaim("late")))._tag, "Indeterminate")
    const late = seen.calls.findLast(faults.isEntry)!.op!
    seen.before = () => Effect.void
    yield* leadership.proclaim("2")
    yield* backendOf(kv).execute(late)
    assert.deepStrictEqual(yield* values(kv, "e"), ["2"])
    yield* leadership.proclaim("3")
    assert.deepStrictEqual(yield* values(kv, "e"), ["3"])
  }),

  test("a proclamation puts a key that a foreign write detached back on its lease", function*(kv) {
    const leadership = yield* lead(kv, "e", { value: "1" })
    const { lease } = yield* entryOf(kv, leadership.key)
    yield* kv.put(leadership.key, "foreign")
    yield* leadership.proclaim("2")
    const entry = yield* entryOf(kv, leadership.key)
    assert.deepStrictEqual([entry.lossyText, entry.lease], ["2", lease])
  }),

  test("concurrent proclamations all succeed, and the value is one of them", function*(kv) {
    const leadership = yield* lead(kv, "e")
    const revisions = yield* Effect.forEach(["a", "b", "c", "d"], leadership.proclaim, { concurrency: "unbounded" })
    const last = revisions.reduce((largest, each) => each > largest ? each : largest)
    const entry = yield* entryOf(kv, leadership.key)
    assert.strictEqual(entry.modRevision, last)
    assert.strictEqual(entry.lossyText, ["a", "b", "c", "d"][revisions.indexOf(last)])
  }),

  test("withLeadership fences the writes of its effect, and rejects its proclamations after a loss", function*(kv) {
    const deaf = faults.make()
    const client = yield* faults.newClientWith(deaf)
    deaf.before = (call) => call.kind === "watch" ? faults.unavailable : Effect.void
    const barrier = yield* faults.barrier
    const reasons: Array<string> = []
    const fiber = yield* candidate(client, "e", (leadership) =>
      Effect.uninterruptible(Effect.gen(function*() {
        yield* leadership.proclaim("working")
        yield* client.put("written", "1")
        yield* barrier.stop
        reasons.push((yield* Effect.orDie(reasonOf(client.put("written", "2"))))._tag)
        reasons.push((yield* Effect.orDie(reasonOf(leadership.proclaim("late"))))._tag)
      })))
    yield* promptly("it leads", barrier.reached)
    assert.deepStrictEqual(yield* values(kv, "e"), ["working"])
    const leader = Option.getOrThrow(yield* on(kv)(Election.leader("e")))
    yield* kv.delete(leader.key)
    yield* barrier.letGo
    failedWith(yield* exitOf("the loss", fiber), "LockLost")
    assert.deepStrictEqual(reasons, ["LockLost", "LockLost"])
    assert.strictEqual(yield* textOf(kv, "written"), "1")
  }),

  test("an observer sees each leader, each proclamation and each vacancy, in order", function*(kv) {
    const observer = yield* follow(yield* newClient, "e")
    yield* observer.until("none")
    const first = yield* lead(kv, "e", { value: "a" })
    yield* first.proclaim("a2")
    const second = yield* candidate(yield* newClient, "e", (leadership) => leadership.proclaim("b2"), { value: "b" })
    yield* first.resign
    yield* promptly("the second led", Fiber.join(second))
    yield* observer.until("none", "a", "a2", "b", "b2", "none")
  }),

  test("an observer that reads slowly misses no leader", function*(kv) {
    const barrier = yield* faults.barrier
    const reading = yield* Election.observe("e").pipe(
      Stream.tap((leader) => Option.isNone(leader) ? barrier.stop : Effect.void),
      Stream.map(Option.map(({ value }) => value)),
      Stream.takeUntil(Option.contains("last")),
      Stream.runCollect,
      on(kv),
      Effect.forkScoped
    )
    yield* promptly("the observer reads", barrier.reached)
    const expected: Array<Option.Option<string>> = [Option.none()]
    for (const value of ["a", "b", "c"]) {
      const { resign } = yield* lead(kv, "e", { value })
      yield* resign
      expected.push(Option.some(value), Option.none())
    }
    yield* lead(kv, "e", { value: "last" })
    yield* barrier.letGo
    assert.deepStrictEqual(yield* promptly("the last leader", Fiber.join(reading)), [...expected, Option.some("last")])
  }),

  test("an observer that is subscribed never misses the first leader", function*(kv) {
    const other = yield* newClient
    for (let i = 0; i < 50; i++) {
      const observer = yield* follow(other, `e${i}`)
      const { resign } = yield* lead(kv, `e${i}`, { value: "leader" })
      yield* resign
      yield* observer.until("none", "leader", "none")
      yield* Fiber.interrupt(observer.fiber)
    }
  }),

  test("a transaction that replaces the leader is one change for an observer", function*(kv) {
    const observer = yield* follow(kv, "e")
    yield* kv.put("e/1", "a")
    yield* kv.txn({ then: [Op.delete("e/1"), Op.put("e/2", "b")] })
    yield* kv.delete("e/2")
    yield* observer.until("none", "a", "b", "none")
  }),

  test("a name that is no key is rejected by every function", function*(kv) {
    const calls = [
      Effect.scoped(Election.campaign("")),
      Election.withLeadership("", () => Effect.void),
      Election.singleton("", () => Effect.void),
      Stream.runDrain(Election.observe("")),
      Election.leader(""),
      Election.candidates("")
    ]
    for (const call of calls) assert.strictEqual((yield* reasonOf(on(kv)(call)))._tag, "InvalidRequest")
  }),

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
    const middle = yield* candidate(yield* newClient, name, () => Effect.sync(() => hasLed = true))
    const last = yield* candidate(yield* newClient, name, token)
    yield* Fiber.interrupt(middle)
    yield* untilContenders(kv, name, 2)
    const store = yield* Store
    yield* store.passTime("1 second")
    assert.strictEqual(last.pollUnsafe(), undefined)
    yield* leader.resign
    assert.isTrue((yield* promptly("the last leads", Fiber.join(last))) > leader.token)
    assert.isFalse(hasLed, "the body of a candidate that never led does not run")
    yield* isVacant(kv, name)
  }),

  waitingTest("a candidate goes on waiting through a compaction and an outage", function*(kv) {
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
      () => Effect.onInterrupt(Effect.never, () => Fence.unfenced(Effect.orDie(kv.put(`${name}.ended`, "1")))),
      {
        ttl: "3 seconds"
      }
    )
    const next = yield* candidate(kv, name, token)
    const { key } = Option.getOrThrow(yield* on(kv)(Election.leader(name)))
    // Renewals reach the store and are never answered.
    cut.after = (call) => call.kind === "leaseKeepAlive" ? Effect.never : Effect.void
    cut.before = (call) => call.kind === "leaseKeepAlive" ? faults.unavailable : Effect.void
    failedWith(yield* exitOf("the loss", leader), "LockLost")
    const ended = yield* entryOf(kv, `${name}.ended`)
    assert.isTrue(
      Option.isSome(yield* kv.getEntry(key, { revision: ended.modRevision })),
      "it was interrupted before the store deleted its key"
    )
    assert.isTrue(Exit.isSuccess(yield* exitOf("the next leads", next)))
  }),

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

  waitingTest("a body that hangs while renewals succeed gives its leadership up after maxHold", function*(kv) {
    const name = "election/hangs"
    const leader = yield* candidate(kv, name, () => Effect.never, { maxHold: "2 seconds" })
    const next = yield* candidate(yield* newClient, name, token)
    failedWith(yield* exitOf("the end of the hold", leader), "LockHoldExceeded")
    assert.isTrue(Exit.isSuccess(yield* exitOf("the next leads", next)))
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

  waitingTest("a campaign that times out fails and leaves no key", function*(kv) {
    const name = "election/timeout"
    const leader = yield* lead(kv, name)
    const waiting = yield* candidate(yield* newClient, name, token, { acquireTimeout: "1 second" })
    failedWith(yield* exitOf("the timeout", waiting), "LockTimeout")
    assert.strictEqual((yield* on(kv)(Election.candidates(name))).length, 1)
    yield* leader.resign
    yield* isVacant(kv, name)
  }),

  waitingTest("an observer continues after a compaction of what it missed, with the leader of then", function*(kv) {
    const name = "election/observer"
    const store = yield* Store
    const held = faults.make()
    const client = yield* faults.newClientWith(held)
    const { revision } = yield* kv.put(`${name}.other`, "1")
    // The watch of the observer ends as one does whose history was compacted; the next one works.
    let failures = 1
    const leadership = yield* lead(kv, name, { value: "a" })
    const compacted = yield* Kv.make({
      ...backendOf(client),
      watch: (request) =>
        Effect.map(backendOf(client).watch(request), (watcher) => ({
          ...watcher,
          take: Effect.suspend(() =>
            failures > 0 && seen.length > 0
              ? Effect.flatMap(barrier.stop, () => {
                failures--
                return KvError.fail(new KvError.Compacted({ compactRevision: Option.some(revision) }))
              })
              : watcher.take
          )
        }))
    })
    const seen: Array<string> = []
    const barrier = yield* faults.barrier
    const observing = Election.observe(name).pipe(
      Stream.runForEach((leader) =>
        Effect.sync(() => seen.push(Option.match(leader, { onNone: () => "none", onSome: ({ value }) => value })))
      ),
      on(compacted)
    )
    yield* Effect.forkScoped(observing)
    yield* promptly("the watch ends", barrier.reached)
    yield* leadership.resign
    const next = yield* lead(kv, name, { value: "b" })
    yield* store.compact((yield* kv.put(`${name}.other`, "2")).revision)
    yield* barrier.letGo
    yield* waitUntil("the next leader", Effect.sync(() => seen.length === 2))
    assert.deepStrictEqual(seen, ["a", "b"])
    yield* next.resign
    yield* soon("the vacancy", Effect.sync(() => seen.length === 3))
    assert.deepStrictEqual(seen, ["a", "b", "none"])
  }),

  waitingTest("a new observer sees a leader whose key is older than the history", function*(kv) {
    const name = "election/idle"
    const store = yield* Store
    yield* lead(kv, name, { value: "idle" })
    yield* store.compact((yield* kv.put(`${name}.other`, "1")).revision)
    const observer = yield* follow(yield* newClient, name)
    yield* observer.until("idle")
  }),

  waitingTest("an observer fails with Closed when its client is closed", function*(kv) {
    const name = "election/closed"
    const ended = yield* Effect.scoped(Effect.gen(function*() {
      return (yield* follow(yield* newClient, name)).fiber
    }))
    const exit = yield* exitOf("the end", ended)
    assert.isTrue(Exit.isFailure(exit))
    assert.strictEqual(yield* kv.count(KeyRange.prefix(`${name}/`)), 0)
  }),

  waitingTest("a singleton that ends gives the next instance its turn, and campaigns again", function*(kv) {
    const name = "singleton/turns"
    const runs: Array<string> = []
    const instance = (id: string, client: Kv.Kv) =>
      Effect.forkScoped(
        on(client)(Election.singleton(
          name,
          () => Effect.andThen(Effect.sync(() => runs.push(id)), Effect.sleep("2 seconds")),
          { value: id }
        ))
      )
    yield* instance("a", kv)
    yield* waitUntil("a runs", Effect.sync(() => runs.length === 1))
    yield* instance("b", yield* newClient)
    yield* untilContenders(kv, name, 2)
    yield* waitUntil("four runs", Effect.sync(() => runs.length >= 4))
    assert.deepStrictEqual(runs.slice(0, 4), ["a", "b", "a", "b"])
  }),

  waitingTest(
    "a singleton that fails or dies at once is tried again after a pause, and others get their turn",
    function*(kv) {
      const name = "singleton/fails"
      const store = yield* Store
      const warnings: Array<unknown> = []
      const logger = Logger.make<unknown, void>(({ fiber, logLevel }) => {
        if (logLevel === "Warn") warnings.push(fiber.getRef(References.CurrentLogAnnotations)["election"])
      })
      let failures = 0
      yield* Election.singleton(name, () => ++failures % 2 === 0 ? Effect.die("defect") : Effect.fail("own")).pipe(
        on(kv),
        Effect.provide(Logger.layer([logger])),
        Effect.forkScoped
      )
      yield* waitUntil("the first failure", Effect.sync(() => failures > 0))
      yield* store.passTime("4 seconds")
      assert.isAtLeast(failures, 3)
      assert.isAtMost(failures, 7, "there is a pause between the runs")
      yield* waitUntil("each is logged", Effect.sync(() => warnings.length >= 3))
      assert.deepStrictEqual([...new Set(warnings)], [name])
      const other = yield* Effect.forkScoped(on(yield* newClient)(Election.withLeadership(name, token)))
      assert.isTrue(Exit.isSuccess(yield* exitOf("the other leads", other)))
    }
  ),

  waitingTest("singletons all contend again after every loss, however often", function*(kv) {
    const name = "singleton/losses"
    const clients = [kv, yield* newClient, yield* newClient]
    let running = 0
    for (const [i, client] of clients.entries()) {
      yield* Election.singleton(
        name,
        () =>
          Effect.acquireUseRelease(
            Effect.sync(() => running++),
            () => Effect.never,
            () => Effect.sync(() => running--)
          ),
        { value: `${i}` }
      ).pipe(on(client), Effect.forkScoped)
    }
    const tokens: Array<bigint> = []
    for (let round = 0; round < 6; round++) {
      yield* waitUntil(
        "all contend and one runs",
        Effect.map(on(kv)(Election.candidates(name)), (all) => all.length === 3 && running === 1)
      )
      const leader = Option.getOrThrow(yield* on(kv)(Election.leader(name)))
      tokens.push(leader.token)
      if (round % 2 === 0) yield* backendOf(kv).leaseRevoke(yield* leaseOfLeader(kv, name))
      else yield* kv.delete(leader.key)
    }
    assert.deepStrictEqual(tokens, tokens.toSorted((a, b) => Number(a - b)))
    assert.strictEqual(new Set(tokens).size, 6)
    yield* waitUntil(
      "all contend again",
      Effect.map(on(kv)(Election.candidates(name)), (all) => all.length === 3 && running === 1)
    )
  }),

  waitingTest("singletons all contend again after outages that are longer than their time to live", function*(kv) {
    const name = "singleton/outages"
    const store = yield* Store
    const running = new Set<number>()
    const cuts: Array<faults.Faults> = []
    for (let i = 0; i < 3; i++) {
      const cut = faults.make()
      cuts.push(cut)
      yield* Election.singleton(
        name,
        () =>
          Effect.acquireUseRelease(
            Effect.sync(() => running.add(i)),
            () => Effect.never,
            () => Effect.sync(() => running.delete(i))
          ),
        { value: `${i}`, ttl: "2 seconds" }
      ).pipe(on(yield* faults.newClientWith(cut)), Effect.forkScoped)
    }
    const oneRuns = waitUntil(
      "all contend and one runs",
      Effect.map(
        on(kv)(Election.candidates(name)),
        (all) => all.length === 3 && running.size === 1 && running.has(Number(all[0]!.value))
      )
    )
    for (let round = 0; round < 4; round++) {
      yield* oneRuns
      for (const cut of cuts) cut.before = () => Effect.andThen(Effect.sleep("50 millis"), faults.unavailable)
      yield* store.passTime("3500 millis")
      assert.strictEqual(running.size, 0, "no run outlives its lease")
      for (const cut of cuts) cut.before = () => Effect.void
    }
    yield* oneRuns
  }),

  waitingTest("a singleton ends with its schedule, and fails when its client is closed", function*(kv) {
    const name = "singleton/ends"
    let runs = 0
    yield* on(kv)(Election.singleton(name, () => Effect.sync(() => runs++), { schedule: Schedule.recurs(2) }))
    assert.strictEqual(runs, 3)
    yield* isVacant(kv, name)
    const closed = yield* Effect.scoped(Effect.gen(function*() {
      const client = yield* newClient
      const fiber = yield* Effect.forkDetach(on(client)(Election.singleton(name, () => Effect.never)))
      yield* untilContenders(kv, name, 1)
      return fiber
    }))
    assert.strictEqual(failedWith(yield* exitOf("the end", closed), "KvError").reason._tag, "Closed")
    yield* isVacant(kv, name)
  })
])
