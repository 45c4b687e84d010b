/**
 * Elections: one leader at a time, in order of arrival, with a value that all can see and a stream of its changes.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as Election from "@effect-kv/core/Election"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import { assert } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { chapter, newClient, promptly, reasonOf, revisionOf, test, waitingTest } from "./Case.ts"
import { candidate, enter, follow, isVacant, lead, token, values } from "./electing.ts"
import { entryOf, textOf } from "./entries.ts"
import * as faults from "./faults.ts"
import { exitOf, failedWith, on, soon } from "./locking.ts"

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

  test("a waiting candidate may proclaim, and keeps its key, its token, its lease and its place", function*(kv) {
    const leader = yield* lead(kv, "e", { value: "leader" })
    const observer = yield* follow(kv, "e")
    const first = yield* enter(yield* newClient, "e", { value: "a" })
    const second = yield* enter(kv, "e", { value: "b" })
    const before = yield* entryOf(kv, first.key)
    assert.strictEqual(first.token, before.createRevision)
    const revision = yield* first.proclaim("a2")
    yield* second.proclaim("b2")
    const after = yield* entryOf(kv, first.key)
    assert.deepStrictEqual(
      [after.lossyText, after.createRevision, after.modRevision, after.lease],
      ["a2", before.createRevision, revision, before.lease]
    )
    yield* first.proclaim("a3")
    assert.deepStrictEqual(yield* values(kv, "e"), ["leader", "a3", "b2"])
    yield* leader.resign
    const leadership = yield* promptly("the first is elected", first.elected)
    assert.deepStrictEqual([leadership.key, leadership.token], [first.key, first.token])
    yield* leadership.proclaim("a4")
    yield* first.proclaim("a5")
    yield* first.leave
    yield* observer.until("leader", "a3", "a4", "a5", "b2")
    assert.isFalse(yield* leadership.isLeader)
    yield* (yield* promptly("the second is elected", second.elected)).resign
    yield* isVacant(kv, "e")
  }),

  test("a candidate that left or lost its place is not elected, and its proclamations change nothing", function*(kv) {
    const leader = yield* lead(kv, "e", { value: "leader" })
    const left = yield* enter(kv, "e")
    const lost = yield* enter(kv, "e")
    const waiting = yield* Effect.forkScoped(left.elected, { startImmediately: true })
    yield* left.leave
    yield* kv.delete(lost.key)
    failedWith(yield* exitOf("the candidate that left", waiting), "LockLost")
    const { revision } = yield* kv.put("something", "1")
    for (const { elected, proclaim } of [left, lost]) {
      assert.strictEqual((yield* reasonOf(proclaim("late")))._tag, "LockLost")
      failedWith(yield* Effect.exit(promptly("the loss", elected)), "LockLost")
    }
    assert.strictEqual(yield* revisionOf(kv), revision)
    assert.deepStrictEqual(yield* values(kv, "e"), ["leader"])
    yield* leader.resign
    yield* isVacant(kv, "e")
  }),

  test("a candidate keeps its place when its waiter is interrupted, and leaves when its scope closes", function*(kv) {
    const leader = yield* lead(kv, "e", { value: "leader" })
    const scope = yield* Scope.make()
    const candidacy = yield* Scope.provide(enter(kv, "e", { value: "next" }), scope)
    yield* Fiber.interrupt(yield* Effect.forkChild(candidacy.elected, { startImmediately: true }))
    assert.deepStrictEqual(yield* values(kv, "e"), ["leader", "next"])
    yield* leader.resign
    const leadership = yield* promptly("it is elected", candidacy.elected)
    assert.isTrue(yield* leadership.isLeader)
    yield* Scope.close(scope, Exit.void)
    assert.isFalse(yield* leadership.isLeader)
    yield* isVacant(kv, "e")
  }),

  test("an entry that is interrupted before the response leaves no key", function*(kv) {
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    const gate = yield* Deferred.make<void>()
    seen.before = (call) => faults.isEntry(call) ? Deferred.await(gate) : Effect.void
    const entering = yield* Effect.forkScoped(enter(client, "e"))
    yield* soon("the request was sent", Effect.sync(() => seen.calls.some(faults.isEntry)))
    const interrupted = yield* Effect.forkScoped(Fiber.interrupt(entering), { startImmediately: true })
    yield* Deferred.succeed(gate, undefined)
    yield* promptly("the interruption", Fiber.join(interrupted))
    assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(entering)))
    yield* isVacant(kv, "e")
  }),

  test("a leader that awaits its own next turn is rejected, and enters the queue all the same", function*(kv) {
    const rejoin = Effect.gen(function*() {
      const next = yield* Election.enter("e", { value: "next" })
      assert.strictEqual((yield* reasonOf(next.elected))._tag, "InvalidRequest")
      return next
    })
    const next = yield* on(kv)(Election.use("e", () => rejoin, { value: "leader" }))
    assert.strictEqual((yield* promptly("it leads again", next.elected)).token, next.token)
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
    seen.before = (call) => faults.isEntry(call) ? faults.lostResponse : Effect.void
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

  test("an election fences the writes of its effect, and rejects its proclamations after a loss", function*(kv) {
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

  test("a name that is no key is rejected by every function", function*(kv) {
    const calls = [
      Effect.scoped(Election.campaign("")),
      Effect.scoped(Election.enter("")),
      Election.use("", () => Effect.void),
      Election.singleton("", () => Effect.void),
      Stream.runDrain(Election.observe("")),
      Election.leader(""),
      Election.candidates("")
    ]
    for (const call of calls) assert.strictEqual((yield* reasonOf(on(kv)(call)))._tag, "InvalidRequest")
  }),

  waitingTest("a campaign that times out fails and leaves no key", function*(kv) {
    const name = "election/timeout"
    const leader = yield* lead(kv, name)
    const waiting = yield* candidate(yield* newClient, name, token, { acquireTimeout: "1 second" })
    failedWith(yield* exitOf("the timeout", waiting), "LockTimeout")
    assert.strictEqual((yield* on(kv)(Election.candidates(name))).length, 1)
    yield* leader.resign
    yield* isVacant(kv, name)
  })
])
