/**
 * Sequences and counters: numbers that no client gets twice, and sums that no lost response makes wrong.
 */
import * as Counter from "@effect-kv/core/Counter"
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import type * as Op from "@effect-kv/core/Op"
import * as Sequence from "@effect-kv/core/Sequence"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { chapter, newClient, promptly, reasonOf, rejects, test } from "./Case.ts"
import { entryOf, textOf } from "./entries.ts"
import * as faults from "./faults.ts"
import * as fences from "./fences.ts"
import { hold, on } from "./locking.ts"

const next = (kv: Kv.Kv, name: string) => on(kv)(Sequence.next(name))

const dense = (kv: Kv.Kv, name: string, block?: number) => on(kv)(Sequence.dense(name, { block }))

/** A participant, until it is ended or the case ends. */
const participate = Effect.fnUntraced(function*(kv: Kv.Kv, name: string) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const counter = yield* on(kv)(Scope.provide(Counter.make(name), scope))
  return { ...counter, end: Scope.close(scope, Exit.void) }
})

const sumOf = (kv: Kv.Kv, name: string) => on(kv)(Counter.get(name))

const keysUnder = (kv: Kv.Kv, prefix: string) =>
  Effect.map(kv.range(KeyRange.prefix(prefix)), ({ entries }) => entries.map(({ key }) => key))

const sorted = (numbers: ReadonlyArray<bigint>) => numbers.toSorted((a, b) => a < b ? -1 : a > b ? 1 : 0)

const upTo = (n: number) => Array.from({ length: n }, (_, i) => BigInt(i + 1))

/** Whether a call writes the total of a participant. */
const isAddition = ({ op }: faults.Call): boolean =>
  op?._tag === "Txn" &&
  op.then.some((inner) => inner._tag === "Put" && inner.key.includes("/total/") && inner.value !== "0")

/** Whether a call creates the key that shows that a participant lives. */
const isLife = ({ op }: faults.Call): boolean =>
  op?._tag === "Txn" && op.then.some((inner) => inner._tag === "Put" && inner.key.includes("/live/"))

export const cases = chapter("sequences and counters", [
  test("a number of a sequence is larger than all before it, and no client gets it again", function*(kv) {
    const clients = [kv, yield* newClient, yield* newClient]
    const numbers = yield* Effect.forEach(
      Array.from({ length: 45 }, (_, i) => i),
      (i) => next(clients[i % 3]!, "orders"),
      { concurrency: "unbounded" }
    )
    assert.strictEqual(new Set(numbers).size, 45)
    const later = [yield* next(clients[2]!, "orders"), yield* next(kv, "orders")]
    assert.deepStrictEqual(later, sorted(later))
    assert.isTrue(numbers.every((number) => number < later[0]!))
    yield* rejects(kv, "InvalidRequest", next(kv, ""))
  }),

  test("a number whose response is lost is given to no other call", function*(kv) {
    const lossy = faults.make()
    const client = yield* faults.newClientWith(lossy)
    let losses = 2
    lossy.after = () => losses-- > 0 ? faults.lostResponse : Effect.void
    const number = yield* next(client, "orders")
    assert.strictEqual((yield* entryOf(kv, "orders/sequence/last")).version, 3)
    assert.isTrue((yield* next(kv, "orders")) > number)
  }),

  test("a dense sequence has every number once, whichever client takes it", function*(kv) {
    const users = [yield* dense(kv, "n"), yield* dense(kv, "n"), yield* dense(yield* newClient, "n")]
    const numbers = yield* promptly(
      "all numbers",
      Effect.forEach(Array.from({ length: 30 }, (_, i) => i), (i) => users[i % 3]!.next, { concurrency: "unbounded" })
    )
    assert.deepStrictEqual(sorted(numbers), upTo(30))
    assert.strictEqual(yield* users[0]!.next, 31n)
  }),

  test("a dense sequence reserves blocks, and most of its numbers cost no request", function*(kv) {
    const seen = faults.make()
    const [here, there] = [yield* dense(yield* faults.newClientWith(seen), "n", 10), yield* dense(kv, "n", 10)]
    assert.deepStrictEqual([yield* here.next, yield* there.next], [1n, 11n])
    seen.calls.length = 0
    const rest = yield* Effect.all(Array.from({ length: 9 }, () => here.next), { concurrency: "unbounded" })
    assert.deepStrictEqual(sorted(rest), upTo(10).slice(1))
    assert.lengthOf(seen.calls, 0)
    assert.strictEqual(yield* here.next, 21n)
    assert.strictEqual(yield* textOf(kv, "n/sequence/next"), "30")
  }),

  test("numbers are compared as numbers: 10 comes after 9", function*(kv) {
    const users = [yield* dense(kv, "n", 3), yield* dense(kv, "n", 3)]
    const numbers: Array<bigint> = []
    for (let i = 0; i < 15; i++) numbers.push(yield* users[i % 2]!.next)
    assert.deepStrictEqual(sorted(numbers).slice(0, 12), upTo(12))
    const counter = yield* participate(kv, "c")
    yield* counter.add(4)
    yield* (yield* participate(kv, "c")).add(10)
    assert.strictEqual(yield* counter.get, 14n)
    yield* counter.add(2n ** 70n)
    assert.strictEqual(yield* counter.get, 2n ** 70n + 14n)
  }),

  test("a reservation whose response is lost leaves a gap, and no number is given twice", function*(kv) {
    const lossy = faults.make()
    const here = yield* dense(yield* faults.newClientWith(lossy), "n", 2)
    const there = yield* dense(kv, "n", 2)
    const numbers = [yield* here.next, yield* there.next, yield* here.next]
    let losses = 1
    lossy.after = (call) => call.op?._tag === "Txn" && losses-- > 0 ? faults.lostResponse : Effect.void
    for (const user of [here, there, here, there]) numbers.push(yield* user.next)
    assert.strictEqual(new Set(numbers).size, numbers.length)
    assert.deepStrictEqual(numbers.slice(0, 4), [1n, 3n, 2n, 7n])
  }),

  test("a sequence or counter does not touch those whose names extend its own", function*(kv) {
    for (const [i, name] of ["jobs", "jobs2", "jobs/2", "jobs/counter/total", "jobs/sequence"].entries()) {
      const counter = yield* participate(kv, name)
      yield* counter.add(10 ** i)
      const numbers = yield* dense(kv, name)
      assert.strictEqual(yield* numbers.next, 1n)
    }
    assert.strictEqual(yield* sumOf(kv, "jobs"), 1n)
    assert.strictEqual(yield* sumOf(kv, "jobs2"), 10n)
    assert.strictEqual(yield* sumOf(kv, "jobs/2"), 100n)
    assert.strictEqual(yield* sumOf(kv, "jobs/counter/total"), 1000n)
    assert.deepStrictEqual(yield* on(kv)(DistLock.waiters("jobs")), [])
    yield* hold(kv, "jobs")
  }),

  test("what another program wrote under the keys is an InvalidRequest that names the key", function*(kv) {
    const numbers = yield* dense(kv, "n")
    const counter = yield* participate(kv, "n")
    for (const value of ["", "x", "1.5", " 1", "01", new Uint8Array([0xff])]) {
      yield* kv.put("n/sequence/next", value)
      yield* rejects(kv, "InvalidRequest", numbers.next)
      yield* kv.put("n/counter/total/foreign", value)
      const { message } = yield* rejects(kv, "InvalidRequest", counter.get)
      assert.include(message, "n/counter/total/foreign")
    }
    for (const block of [0, -1, 1.5, Number.NaN]) yield* rejects(kv, "InvalidRequest", dense(kv, "n", block))
    for (const amount of [1.5, Number.NaN, 2 ** 60]) yield* rejects(kv, "InvalidRequest", counter.add(amount))
  }),

  test("the additions of many participants are summed exactly, and each costs one request", function*(kv) {
    const seen = faults.make()
    const clients = [yield* faults.newClientWith(seen), yield* newClient, yield* newClient]
    const counters = yield* Effect.forEach(
      Array.from({ length: 24 }, (_, i) => i),
      (i) => participate(clients[i % 3]!, "c"),
      { concurrency: "unbounded" }
    )
    yield* Effect.forEach(counters, ({ add }) => add(1), { concurrency: "unbounded", discard: true })
    seen.calls.length = 0
    yield* promptly(
      "all additions",
      Effect.forEach(
        Array.from({ length: 96 }, (_, i) => i),
        (i) => counters[i % 24]!.add(i + 1),
        { concurrency: "unbounded", discard: true }
      )
    )
    assert.lengthOf(seen.calls, 32)
    assert.strictEqual(yield* sumOf(kv, "c"), BigInt(24 + 97 * 48))
  }),

  test("an addition whose response is lost counts once, whether it was applied or not", function*(kv) {
    const lossy = faults.make()
    const counter = yield* participate(yield* faults.newClientWith(lossy), "c")
    yield* counter.add(1)
    for (const when of ["before", "after"] as const) {
      for (let losses = 1; losses <= 3; losses++) {
        let left = losses
        lossy[when] = (call) => isAddition(call) && left-- > 0 ? faults.lostResponse : Effect.void
        const before = yield* sumOf(kv, "c")
        yield* counter.add(10)
        assert.strictEqual(yield* sumOf(kv, "c"), before + 10n, `${when}, ${losses}`)
        lossy[when] = () => Effect.void
      }
    }
  }),

  test("an interrupted addition counts once or never, and the next ones are exact", function*(kv) {
    const slow = faults.make()
    const counter = yield* participate(yield* faults.newClientWith(slow), "c")
    yield* counter.add(1)
    for (const when of ["before", "after"] as const) {
      const barrier = yield* faults.barrier
      slow[when] = (call) => isAddition(call) ? barrier.stop : Effect.void
      const fiber = yield* Effect.forkChild(counter.add(10))
      yield* barrier.reached
      yield* Effect.sync(() => fiber.interruptUnsafe())
      slow[when] = () => Effect.void
      yield* counter.add(100)
    }
    assert.strictEqual(yield* sumOf(kv, "c"), 211n)
  }),

  test("a participant that ends leaves its total, and no key of its own", function*(kv) {
    const [first, second] = [yield* participate(kv, "c"), yield* participate(kv, "c")]
    yield* first.add(3)
    yield* second.add(-5)
    yield* first.end
    assert.strictEqual(yield* sumOf(kv, "c"), -2n)
    yield* second.end
    yield* (yield* participate(kv, "c")).end
    assert.strictEqual(yield* sumOf(kv, "c"), -2n)
    assert.deepStrictEqual(yield* keysUnder(kv, "c/"), ["c/counter/folded"])
    const reason = yield* reasonOf(first.add(1))
    assert.strictEqual(reason._tag, "Closed")
  }),

  test("the next participants fold the totals of those that crashed, once", function*(kv) {
    const crashed = Array.from({ length: 60 }, (_, i) => [`c/counter/total/${i}`, `${i}`] as const)
    yield* Effect.forEach(crashed, ([key, total]) => kv.put(key, total), { concurrency: "unbounded" })
    const living = yield* participate(yield* newClient, "c")
    yield* living.add(1000)
    const clients = yield* Effect.forEach(Array.from({ length: 3 }), () => newClient)
    const later = yield* Effect.forEach(clients, (client) => participate(client, "c"), { concurrency: "unbounded" })
    yield* later[0]!.add(1)
    assert.strictEqual(yield* sumOf(kv, "c"), 2771n)
    assert.lengthOf(yield* keysUnder(kv, "c/counter/total/"), 2)
  }),

  test("a total that is folded while another one is being folded is not lost", function*(kv) {
    const hooks = faults.make()
    const client = yield* faults.newClientWith(hooks)
    yield* kv.put("c/counter/total/1", "7")
    yield* kv.put("c/counter/folded", "1")
    let isFirst = true
    hooks.before = (call) => {
      if (!faults.isRemoval(call) || !isFirst) return Effect.void
      isFirst = false
      return Effect.orDie(kv.put("c/counter/folded", "6"))
    }
    yield* participate(client, "c")
    assert.isFalse(isFirst, "a total was folded")
    assert.strictEqual(yield* sumOf(kv, "c"), 13n)
  }),

  test("a participant that was mistaken for dead continues, and nothing counts twice", function*(kv) {
    const hooks = faults.make()
    const paused = yield* participate(yield* faults.newClientWith(hooks), "c")
    yield* paused.add(10)
    // While its live key is missing, another participant takes it for dead.
    const deadAndFolded = Effect.scoped(Effect.gen(function*() {
      hooks.before = (call) => isLife(call) ? faults.unavailable : Effect.void
      yield* kv.deleteRange(KeyRange.prefix("c/counter/live/"))
      yield* (yield* participate(kv, "c")).end
      assert.deepStrictEqual(yield* keysUnder(kv, "c/counter/total/"), [])
      hooks.before = () => Effect.void
    }))
    yield* deadAndFolded
    yield* paused.add(1)
    assert.strictEqual(yield* sumOf(kv, "c"), 11n)

    // The response is lost, and the total is folded before it could be read: the outcome is unknown.
    let lost: Op.Op | undefined
    hooks.after = (call) => {
      if (!isAddition(call) || lost !== undefined) return Effect.void
      lost = call.op
      return Effect.andThen(Effect.orDie(deadAndFolded), faults.lostResponse)
    }
    const reason = yield* reasonOf(paused.add(100))
    assert.deepStrictEqual([reason._tag, reason.outcome], ["Indeterminate", "Unknown"])
    assert.strictEqual(yield* sumOf(kv, "c"), 111n)
    // A copy of the request that arrives only now, or after the participant has gone on, changes nothing.
    const arriveLate = Effect.suspend(() => backendOf(kv).execute(lost!))
    yield* arriveLate
    assert.strictEqual(yield* sumOf(kv, "c"), 111n)
    yield* paused.add(1000)
    yield* arriveLate
    assert.strictEqual(yield* sumOf(kv, "c"), 1111n)
  }),

  test("additions and numbers under a lock are rejected once the lock is lost", function*(kv) {
    const client = yield* fences.blindClient
    const counter = yield* participate(client, "c")
    const numbers = yield* dense(client, "n")
    const writes: Record<string, fences.Write> = {
      add: () => counter.add(1),
      next: () => next(client, "s"),
      dense: () => numbers.next
    }
    for (const [what, write] of Object.entries(writes)) {
      const { held, lost, token } = yield* fences.tryUnder(kv, client, "l", write)
      assert.isTrue(Exit.isSuccess(held), what)
      fences.isRejectedBy(token, lost, what)
    }
    assert.strictEqual(yield* sumOf(kv, "c"), 0n)
  })
])
