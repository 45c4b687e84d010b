/**
 * Latches and barriers: idempotent arrivals, rounds, an end that all see, and a death that all are notified of.
 */
import * as Barrier from "@effect-kv/core/Barrier"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Latch from "@effect-kv/core/Latch"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as KvFaults from "../../testing/KvFaults.ts"
import { chapter, newClient, promptly, reasonOf, Store, test, waitingTest, waitUntil } from "./Case.ts"
import { entryOf } from "./entries.ts"
import * as faults from "./faults.ts"
import { exitOf, failedWith, hold, on, pauseBetweenPolls, soon } from "./locking.ts"

const awaiting = (kv: Kv.Kv, name: string, count: number) =>
  Effect.forkScoped(Effect.as(on(kv)(Latch.await(name, { count })), "open"), { startImmediately: true })

const arrive = (kv: Kv.Kv, name: string, id: string) => on(kv)(Latch.countDown(name, { id }))

/** Asserts that the fibers have not ended, after they had time to do what they can. */
const stillWait = (...fibers: ReadonlyArray<Fiber.Fiber<unknown, unknown>>) =>
  Effect.map(
    pauseBetweenPolls,
    () => assert.isTrue(fibers.every((fiber) => fiber.pollUnsafe() === undefined), "it is still waiting")
  )

/** Whether so many waiters have read the latch, which they do once they watch it. */
const haveLooked = (seen: faults.Faults, waiters: number) =>
  Effect.sync(() => seen.pending === 0 && seen.calls.filter(({ op }) => op?._tag === "Range").length >= waiters)

/** Enters a barrier in the background. The participant stays until it is told to leave. */
const enter = Effect.fnUntraced(function*(kv: Kv.Kv, name: string, options: Barrier.Options) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const fiber = yield* Effect.forkScoped(on(kv)(Scope.provide(Barrier.enter(name, options), scope)), {
    startImmediately: true
  })
  return { fiber, leave: Scope.close(scope, Exit.void) }
})

const keyOf = (name: string, id: string, round = 0) => `${name}/barrier/${round}/p:${id}`

/** Waits until that participant is in the barrier. */
const untilEntered = (kv: Kv.Kv, name: string, id: string, round = 0) =>
  soon(`${id} is in ${name}`, Effect.map(kv.getEntry(keyOf(name, id, round)), Option.isSome))

const participants = (kv: Kv.Kv, name: string) =>
  Effect.map(
    kv.range(KeyRange.prefix(`${name}/`), { keysOnly: true }),
    ({ entries }) => entries.filter(({ key }) => key.includes("/p:")).length
  )

export const cases = chapter("latches and barriers", [
  test("a latch opens for all waiters when enough participants have arrived, each counted once", function*(kv) {
    const waiting = [
      yield* awaiting(kv, "l", 3),
      yield* awaiting(kv, "l", 3),
      yield* awaiting(yield* newClient, "l", 3)
    ]
    for (const id of ["a", "a", "b", "a"]) yield* arrive(kv, "l", id)
    assert.deepStrictEqual(yield* on(kv)(Latch.arrived("l")), ["a", "b"])
    yield* stillWait(...waiting)
    yield* arrive(yield* newClient, "l", "c")
    assert.deepStrictEqual(yield* promptly("all wake", Effect.forEach(waiting, Fiber.join)), ["open", "open", "open"])
    assert.strictEqual(yield* on(kv)(Effect.as(Latch.await("l", { count: 3 }), "late")), "late")
  }),

  test("an arrival whose response was lost counts once when it is repeated", function*(kv) {
    const lossy = faults.make()
    const client = yield* faults.newClientWith(lossy)
    lossy.after = (call) => call.kind === "execute" ? faults.lostResponse : Effect.void
    assert.strictEqual((yield* reasonOf(arrive(client, "l", "a")))._tag, "Indeterminate")
    lossy.after = () => Effect.void
    yield* arrive(client, "l", "a")
    assert.deepStrictEqual(yield* on(kv)(Latch.arrived("l")), ["a"])
  }),

  test("latches and barriers whose names extend each other do not interfere", function*(kv) {
    const names = ["a", "a0", "a/0", "a/latch", "a/latch/0"]
    const waiting = []
    for (const name of names) waiting.push(yield* awaiting(kv, name, 1))
    for (const [i, name] of names.entries()) {
      assert.deepStrictEqual(yield* on(kv)(Latch.arrived(name)), [])
      yield* arrive(kv, name, "0")
      yield* promptly(`${name} opens`, Fiber.join(waiting[i]!))
      yield* stillWait(...waiting.slice(i + 1))
    }
    yield* on(kv)(Latch.reset("a"))
    for (const name of names.slice(1)) assert.deepStrictEqual(yield* on(kv)(Latch.arrived(name)), ["0"])
    yield* arrive(Kv.prefixed(kv, "app/"), "a", "1")
    assert.deepStrictEqual(yield* on(kv)(Latch.arrived("a")), [])
  }),

  test("a change elsewhere lets no waiter pass a latch or a barrier", function*(kv) {
    const latch = yield* awaiting(kv, "l", 2)
    yield* arrive(kv, "l", "a")
    const { fiber: barrier } = yield* enter(kv, "b", { parties: 2, id: "a" })
    yield* untilEntered(kv, "b", "a")
    for (const base of ["l", "l/latch", "b", "b/barrier"]) {
      for (const suffix of [".x", "/x", "/0", "/0/x", "/0/x/p:x", "/0/p:x/y", "/1/p:x"]) {
        yield* kv.put(base + suffix, "1")
      }
    }
    yield* arrive(kv, "l", "a")
    yield* stillWait(latch, barrier)
  }),

  test("a reset latch is closed and begins again without arrivals, and its waiters keep waiting", function*(kv) {
    const waiting = yield* awaiting(kv, "l", 2)
    yield* arrive(kv, "l", "a")
    yield* on(kv)(Latch.reset("l"))
    assert.deepStrictEqual(yield* on(kv)(Latch.arrived("l")), [])
    yield* arrive(kv, "l", "b")
    yield* stillWait(waiting)
    yield* arrive(kv, "l", "a")
    assert.strictEqual(yield* promptly("it opens", Fiber.join(waiting)), "open")
    for (let i = 0; i < 20; i++) {
      yield* arrive(kv, "l", "a")
      yield* on(kv)(Latch.reset("l"))
    }
    assert.strictEqual(yield* kv.count(KeyRange.prefix("l")), 1, "rounds leave nothing behind")
  }),

  test("an opened latch stays open until it is reset", function*(kv) {
    const waiting = yield* awaiting(kv, "l", 5)
    yield* on(kv)(Latch.open("l"))
    assert.strictEqual(yield* promptly("it opens", Fiber.join(waiting)), "open")
    assert.strictEqual(yield* on(kv)(Effect.as(Latch.await("l", { count: 5 }), "open")), "open")
    yield* on(kv)(Latch.reset("l"))
    yield* stillWait(yield* awaiting(kv, "l", 1))
  }),

  test("names and numbers that are wrong, and a foreign value, are rejected", function*(kv) {
    for (const kind of ["latch", "barrier"]) yield* kv.put(`foreign/${kind}/current`, "text")
    const calls: ReadonlyArray<Effect.Effect<unknown, unknown, Kv.Kv>> = [
      Latch.countDown("", { id: "a" }),
      Latch.countDown("l", { id: "" }),
      Latch.countDown("foreign", { id: "a" }),
      Latch.await("l", { count: 0 }),
      Latch.await("foreign", { count: 1 }),
      Latch.arrived(""),
      Latch.open("foreign"),
      Latch.reset("foreign"),
      Effect.scoped(Barrier.enter("", { parties: 1, id: "a" })),
      Effect.scoped(Barrier.enter("b", { parties: 1, id: "" })),
      Effect.scoped(Barrier.enter("b", { parties: 1.5, id: "a" })),
      Effect.scoped(Barrier.enter("b", { parties: 1, id: "a", ttl: -1 })),
      Effect.scoped(Barrier.enter("foreign", { parties: 1, id: "a" })),
      Barrier.reset("foreign")
    ]
    for (const call of calls) assert.strictEqual((yield* reasonOf(on(kv)(call)))._tag, "InvalidRequest")
    assert.strictEqual(yield* kv.count(KeyRange.all), 2)
  }),

  test(
    "a barrier opens when all have entered, and a latecomer is rejected or takes part in the next round",
    function*(kv) {
      const clients = [kv, yield* newClient, yield* newClient]
      const entered = []
      for (const [i, client] of clients.entries()) {
        entered.push(yield* enter(client, "b", { parties: 3, id: `${i}` }))
        if (i < 2) yield* untilEntered(kv, "b", `${i}`)
      }
      for (const { fiber } of entered) assert.strictEqual(yield* promptly("it opens", Fiber.join(fiber)), 0)
      assert.strictEqual(yield* participants(kv, "b"), 3)
      const late = yield* enter(kv, "b", { parties: 3, id: "late" })
      const refused = failedWith(yield* promptly("the refusal", Fiber.await(late.fiber)), "BarrierRejected")
      assert.deepStrictEqual([refused.barrier, refused.participant, refused.reason], ["b", "late", "Closed"])
      const next = yield* enter(kv, "b", { parties: 3, id: "late", onLate: "next" })
      yield* untilEntered(kv, "b", "late", 1)
      yield* stillWait(next.fiber)
      for (const { leave } of [...entered, next]) yield* leave
      yield* soon("all have left", Effect.map(participants(kv, "b"), (count) => count === 0))
    }
  ),

  test("one participant too many is rejected, or waits for the next round", function*(kv) {
    const others = ["a", "b", "c", "d"].map((id) => enter(kv, "b", { parties: 3, id }))
    const fibers = (yield* Effect.all(others, { concurrency: "unbounded" })).map(({ fiber }) => fiber)
    const exits = yield* promptly("all end", Effect.forEach(fibers, Fiber.await))
    assert.strictEqual(exits.filter(Exit.isSuccess).length, 3)
    failedWith(exits.find(Exit.isFailure)!, "BarrierRejected")
    assert.strictEqual(yield* participants(kv, "b"), 3)
  }),

  test("two participants of one name exclude each other, also in one client", function*(kv) {
    yield* enter(kv, "b", { parties: 3, id: "a" })
    yield* untilEntered(kv, "b", "a")
    for (const client of [kv, yield* newClient]) {
      const { fiber } = yield* enter(client, "b", { parties: 3, id: "a" })
      const { reason } = failedWith(yield* promptly("the refusal", Fiber.await(fiber)), "BarrierRejected")
      assert.strictEqual(reason, "Taken")
    }
    assert.strictEqual(yield* participants(kv, "b"), 1)
  }),

  test("many rounds of one name leave one key", function*(kv) {
    const other = yield* newClient
    const rounds = (client: Kv.Kv, id: string) =>
      Effect.forEach(
        Array.from({ length: 20 }),
        () => Effect.scoped(on(client)(Barrier.enter("b", { parties: 2, id, onLate: "next" })))
      )
    const [a, b] = yield* promptly("all rounds", Effect.all([rounds(kv, "a"), rounds(other, "b")], { concurrency: 2 }))
    assert.deepStrictEqual(a, Array.from({ length: 20 }, (_, i) => i))
    assert.deepStrictEqual(b, a)
    yield* soon("one key", Effect.map(kv.count(KeyRange.prefix("b")), (count) => count === 1))
  }),

  test("a reset barrier can be entered again, and its waiters keep waiting", function*(kv) {
    yield* Effect.scoped(on(kv)(Barrier.enter("b", { parties: 1, id: "a" })))
    yield* on(kv)(Barrier.reset("b"))
    const waiting = yield* enter(kv, "b", { parties: 2, id: "a" })
    yield* untilEntered(kv, "b", "a", 2)
    yield* on(kv)(Barrier.reset("b"))
    yield* untilEntered(kv, "b", "a", 3)
    yield* enter(kv, "b", { parties: 2, id: "b" })
    assert.strictEqual(yield* promptly("it opens", Fiber.join(waiting.fiber)), 3)
  }),

  test("an entry whose response is lost fails and leaves no key", function*(kv) {
    const lossy = faults.make()
    const client = yield* faults.newClientWith(lossy)
    lossy.after = (call) => faults.isEntry(call) && !faults.isRemoval(call) ? faults.lostResponse : Effect.void
    const { fiber } = yield* enter(client, "b", { parties: 2, id: "a" })
    failedWith(yield* promptly("the failure", Fiber.await(fiber)), "KvError")
    yield* soon("no key is left", Effect.map(kv.count(KeyRange.prefix("b")), (count) => count === 0))
  }),

  waitingTest("waiting for a latch sends no requests, however many arrive", function*(kv) {
    const name = "latch/requests"
    const store = yield* Store
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    const waiting = yield* awaiting(client, name, 10)
    yield* soon("it watches", Effect.sync(() => seen.watches === 1 && seen.pending === 0))
    seen.calls.length = 0
    for (let i = 0; i < 10; i++) yield* arrive(kv, name, `${i}`)
    yield* store.passTime("100 millis")
    assert.strictEqual(yield* promptly("it opens", Fiber.join(waiting)), "open")
    assert.deepStrictEqual(seen.calls, [])
    assert.strictEqual(seen.watches, 0)
  }),

  waitingTest("waiters of a latch that opened pass, even if it was reset at once", function*(kv) {
    const names = ["latch/reset/by-hand", "latch/reset/by-arrivals"]
    for (const name of names) {
      const seen = faults.make()
      const client = yield* KvFaults.make(backendOf(yield* faults.newClientWith(seen)))
      const waiting = [
        yield* awaiting(client.kv, name, 2),
        yield* awaiting(yield* faults.newClientWith(seen), name, 2)
      ]
      yield* soon("both have looked and wait", haveLooked(seen, 2))
      // The first waiter learns of the opening and of the reset at once.
      yield* client.partition()
      if (name.endsWith("hand")) yield* on(kv)(Latch.open(name))
      else for (const id of ["a", "b"]) yield* arrive(kv, name, id)
      yield* on(kv)(Latch.reset(name))
      yield* client.heal
      for (const fiber of waiting) assert.deepStrictEqual(yield* exitOf("it wakes", fiber), Exit.succeed("open"))
      yield* stillWait(yield* awaiting(kv, name, 2))
    }
  }),

  test("a waiter that missed a manual opening because of a compaction passes", function*(kv) {
    const store = yield* Store
    const seen = faults.make()
    const client = yield* KvFaults.make(backendOf(yield* faults.newClientWith(seen)))
    const waiting = yield* awaiting(client.kv, "l", 2)
    yield* soon("it has looked and waits", haveLooked(seen, 1))
    yield* client.partition()
    for (const change of [Latch.open("l"), Latch.reset("l"), Latch.reset("l")]) yield* on(kv)(change)
    const { revision } = yield* kv.put("other", "1")
    yield* store.compact(revision)
    yield* client.heal
    assert.deepStrictEqual(yield* exitOf("it wakes", waiting), Exit.succeed("open"))
    yield* stillWait(yield* awaiting(kv, "l", 2))
  }),

  waitingTest("the death of a participant breaks the barrier for all who wait, and names it", function*(kv) {
    const name = "barrier/death"
    const dying = yield* enter(yield* newClient, name, { parties: 4, id: "dying", onDeath: "ignore" })
    yield* untilEntered(kv, name, "dying")
    const waiting = []
    for (const id of ["a", "b"]) {
      waiting.push(yield* enter(yield* newClient, name, { parties: 4, id }))
      yield* untilEntered(kv, name, id)
    }
    yield* backendOf(kv).leaseRevoke(Option.getOrThrow((yield* entryOf(kv, keyOf(name, "dying"))).lease))
    for (const { fiber } of waiting) {
      const { barrier, participant, round } = failedWith(yield* exitOf("it breaks", fiber), "BarrierBroken")
      assert.deepStrictEqual([barrier, participant, round], [name, "dying", 0])
    }
    failedWith(yield* exitOf("the dead one fails too", dying.fiber), "BarrierBroken")
    yield* soon("nothing is left", Effect.map(participants(kv, name), (count) => count === 0))
    // A broken barrier has not opened, so it can be entered again.
    for (const id of ["a", "b"]) waiting.push(yield* enter(kv, name, { parties: 2, id }))
    for (const { fiber } of waiting.slice(2)) assert.isTrue(Exit.isSuccess(yield* exitOf("it opens", fiber)))
  }),

  waitingTest("by option a death is ignored, and another participant takes the place", function*(kv) {
    const name = "barrier/ignored"
    const options = { parties: 3, onDeath: "ignore" } as const
    const dying = yield* enter(yield* newClient, name, { ...options, id: "dying" })
    yield* untilEntered(kv, name, "dying")
    const waiting = yield* enter(kv, name, { ...options, id: "a" })
    yield* untilEntered(kv, name, "a")
    yield* backendOf(kv).leaseRevoke(Option.getOrThrow((yield* entryOf(kv, keyOf(name, "dying"))).lease))
    failedWith(yield* exitOf("the dead one fails", dying.fiber), "BarrierBroken")
    const store = yield* Store
    yield* store.passTime("500 millis")
    yield* stillWait(waiting.fiber)
    for (const id of ["b", "c"]) yield* enter(kv, name, { ...options, id })
    assert.deepStrictEqual(yield* exitOf("it opens", waiting.fiber), Exit.succeed(0))
  }),

  waitingTest("a participant that is interrupted or times out leaves no key, and the others wait on", function*(kv) {
    const name = "barrier/leaves"
    const waiting = yield* enter(yield* newClient, name, { parties: 3, id: "a" })
    yield* untilEntered(kv, name, "a")
    const hasLeft = soon("only one is left", Effect.map(participants(kv, name), (count) => count === 1))
    const limited = yield* Effect.forkScoped(
      Effect.scoped(on(kv)(Effect.timeoutOption(Barrier.enter(name, { parties: 3, id: "b" }), "1 second")))
    )
    assert.deepStrictEqual(yield* exitOf("the time runs out", limited), Exit.succeed(Option.none()))
    yield* hasLeft
    const interrupted = yield* enter(kv, name, { parties: 3, id: "c" })
    yield* untilEntered(kv, name, "c")
    yield* Fiber.interrupt(interrupted.fiber)
    yield* hasLeft
    const store = yield* Store
    yield* store.passTime("500 millis")
    yield* stillWait(waiting.fiber)
    yield* soon(
      "nothing but the participant is left",
      Effect.map(kv.count(KeyRange.prefix(`${name}/`)), (count) => count === 1)
    )
    for (const id of ["b", "c"]) yield* enter(kv, name, { parties: 3, id })
    assert.deepStrictEqual(yield* exitOf("it opens", waiting.fiber), Exit.succeed(0))
  }),

  waitingTest(
    "a participant leaves nothing behind if the store fails while it leaves and its session continues",
    function*(kv) {
      const name = "barrier/leaving"
      const waiting = yield* enter(yield* newClient, name, { parties: 3, id: "a" })
      yield* untilEntered(kv, name, "a")
      const cut = faults.make()
      const client = yield* faults.newClientWith(cut)
      yield* hold(client, `${name}.keeps-the-session`)
      const leaving = yield* enter(client, name, { parties: 3, id: "b" })
      yield* untilEntered(kv, name, "b")
      let failures = 2
      // The last of its requests removes what said that its key was not that of a dead participant.
      cut.before = ({ op }) =>
        op?._tag === "Txn" && op.if.some(({ target }) => target === "Value") && failures-- > 0
          ? faults.unavailable
          : Effect.void
      yield* Effect.forkScoped(Fiber.interrupt(leaving.fiber), { startImmediately: true })
      yield* waitUntil(
        "nothing but the other participant is left",
        Effect.map(kv.count(KeyRange.prefix(`${name}/`)), (count) => count === 1)
      )
      assert.isBelow(failures, 1, "requests have failed")
      yield* stillWait(waiting.fiber)
    }
  ),

  waitingTest("an entry that is interrupted in flight, or whose response is lost, breaks no barrier", function*(kv) {
    const name = "barrier/in-flight"
    const waiting = yield* enter(yield* newClient, name, { parties: 3, id: "a" })
    yield* untilEntered(kv, name, "a")
    const hasLeft = soon("only one is left", Effect.map(participants(kv, name), (count) => count === 1))
    const store = yield* Store
    const faulty = faults.make()
    const client = yield* faults.newClientWith(faulty)
    const written = yield* faults.barrier
    let isFirst = true
    const once = (effect: Effect.Effect<void, KvError.KvError>) => (call: faults.Call) => {
      if (!faults.isEntry(call) || !isFirst) return Effect.void
      isFirst = false
      return effect
    }
    faulty.after = once(written.stop)
    const interrupted = yield* enter(client, name, { parties: 3, id: "b" })
    yield* promptly("the entry is written", written.reached)
    const interruption = yield* Effect.forkScoped(Fiber.interrupt(interrupted.fiber), { startImmediately: true })
    yield* written.letGo
    yield* exitOf("it leaves", interruption)
    yield* hasLeft
    isFirst = true
    faulty.after = once(faults.lostResponse)
    const lost = yield* enter(client, name, { parties: 3, id: "c" })
    failedWith(yield* exitOf("it fails", lost.fiber), "KvError")
    yield* hasLeft
    yield* store.passTime("500 millis")
    yield* stillWait(waiting.fiber)
    for (const id of ["b", "c"]) yield* enter(kv, name, { parties: 3, id })
    assert.deepStrictEqual(yield* exitOf("it opens", waiting.fiber), Exit.succeed(0))
  }),

  waitingTest("the barrier opens even if the last to enter dies right after that", function*(kv) {
    const name = "barrier/last"
    const waiting = yield* enter(yield* newClient, name, { parties: 2, id: "a" })
    yield* untilEntered(kv, name, "a")
    // The last one enters, and never sends that the barrier is open.
    const cut = faults.make()
    const client = yield* faults.newClientWith(cut)
    let hasEntered = false
    cut.before = (call) => {
      if (call.kind !== "execute" || call.op?._tag !== "Txn") return Effect.void
      if (hasEntered) return faults.unavailable
      hasEntered = true
      return Effect.void
    }
    const last = yield* enter(client, name, { parties: 2, id: "last" })
    yield* untilEntered(kv, name, "last")
    yield* kv.delete(keyOf(name, "last"))
    assert.deepStrictEqual(yield* exitOf("it opens", waiting.fiber), Exit.succeed(0))
    cut.before = () => Effect.void
    yield* exitOf("the last one ends", last.fiber)
  }),

  waitingTest("a time limit ends the wait even if a participant hangs", function*(kv) {
    const name = "barrier/limit"
    const limited = yield* Effect.forkScoped(
      on(kv)(Effect.timeoutOption(Effect.as(Latch.await(`${name}-latch`, { count: 1 }), 0), "1 second"))
    )
    const entering = yield* Effect.forkScoped(
      Effect.scoped(on(kv)(Effect.timeoutOption(Barrier.enter(name, { parties: 2, id: "a" }), "1 second")))
    )
    for (const fiber of [limited, entering]) {
      assert.deepStrictEqual(yield* exitOf("the limit", fiber), Exit.succeed(Option.none()))
    }
    yield* waitUntil("nothing is left", Effect.map(kv.count(KeyRange.prefix(name)), (count) => count === 0))
  })
])
