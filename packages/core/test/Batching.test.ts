/**
 * Batching, on a store that responds when the test says so: which calls share a request, and that callers see no
 * difference.
 */
import * as Batching from "@effect-kv/core/Batching"
import * as Check from "@effect-kv/core/Check"
import * as Compare from "@effect-kv/core/Compare"
import * as Deadline from "@effect-kv/core/Deadline"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { execute, type KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import * as SendControl from "@effect-kv/core/SendControl"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Function from "effect/Function"
import * as Option from "effect/Option"
import { TestClock } from "effect/testing"
import { either, integer, oneOf } from "./arbitraries.ts"

/** A request that has reached the store and waits for the test to respond. */
interface PendingRequest {
  readonly op: Op.Op
  /** Executes the request and responds. */
  readonly respond: Effect.Effect<void>
  /** Responds with a failure. With `apply`, executes the request first. */
  readonly fail: (reason: KvError.Reason, options?: { readonly apply: boolean }) => Effect.Effect<void>
  wasCancelled: boolean
}

/** A store that responds when the test says so, and a batching client of it. */
const make = Effect.fnUntraced(function*(
  options?: Batching.Options,
  wrap: (backend: KvBackend) => KvBackend = (backend) => backend
) {
  const store = yield* MemoryStore.make()
  const plain = wrap(yield* store.connect)
  const requests: Array<PendingRequest> = []
  const gated: KvBackend = {
    ...plain,
    execute: (op) =>
      Effect.suspend(() => {
        const response = Deferred.makeUnsafe<Op.Response, KvError.KvError>()
        let isOver = false
        const once = (effect: Effect.Effect<unknown>) =>
          Effect.suspend(() => {
            if (isOver) return Effect.void
            isOver = true
            return Effect.asVoid(effect)
          })
        const execution = Effect.exit(plain.execute(op))
        const request: PendingRequest = {
          op,
          respond: once(Effect.flatMap(execution, (exit) => Deferred.done(response, exit))),
          fail: (reason, options) =>
            once(Effect.andThen(
              options?.apply === true ? execution : Effect.void,
              Deferred.fail(response, KvError.make(reason))
            )),
          wasCancelled: false
        }
        requests.push(request)
        return Effect.onInterrupt(Deferred.await(response), () =>
          Effect.sync(() => {
            request.wasCancelled = true
          }))
      })
  }
  const kv = yield* Kv.make(Batching.batched(options)(gated))
  /** Responds to all pending requests, and to those that follow from the responses. */
  const respondToAll = Effect.gen(function*() {
    for (let i = 0; i < requests.length; i++) {
      yield* requests[i]!.respond
      yield* settled
    }
  })
  return { kv, requests, respondToAll, direct: yield* Kv.make(yield* store.connect) }
})

/** Yields until every fiber waits for the test. */
const settled = Effect.forEach(Array.from({ length: 10 }), () => Effect.yieldNow, { discard: true })

const forkAll = <A, E, R>(effects: ReadonlyArray<Effect.Effect<A, E, R>>) =>
  Effect.tap(Effect.forEach(effects, (effect) => Effect.forkChild(effect)), () => settled)

const opsOf = (request: PendingRequest | undefined): ReadonlyArray<Op.Op> =>
  request?.op._tag === "Txn" ? request.op.then : []

const puts = (kv: Kv.Kv, count: number) => Array.from({ length: count }, (_, i) => kv.put(`k${i}`, `v${i}`))

describe("batching", () => {
  it.effect("sends a call at once and unchanged if no call is in flight", () =>
    Effect.gen(function*() {
      const { kv, requests } = yield* make()
      const fiber = yield* Effect.forkChild(kv.put("a", "1"), { startImmediately: true })
      assert.deepStrictEqual(requests.map(({ op }) => op._tag), ["Put"])
      yield* requests[0]!.respond
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "Put")
    }))

  it.effect("batches calls that arrive while requests are in flight, reads and writes separately", () =>
    Effect.gen(function*() {
      const { respondToAll, direct, kv, requests } = yield* make({ maxInFlight: 1 })
      const writes = yield* forkAll(puts(kv, 20))
      const reads = yield* forkAll(Array.from({ length: 20 }, (_, i) => kv.get(`k${i}`)))
      assert.deepStrictEqual(requests.map(({ op }) => op._tag), ["Put", "Range"])
      yield* respondToAll
      assert.deepStrictEqual(requests.map(({ op }) => op._tag), ["Put", "Range", "Txn", "Txn"])
      assert.strictEqual(opsOf(requests[2]).length, 19)
      assert.isTrue(opsOf(requests[2]).every((op) => op._tag === "Put"))
      assert.isTrue(opsOf(requests[3]).every((op) => op._tag === "Range"))
      assert.isTrue((yield* Fiber.joinAll(writes)).every((response) => response._tag === "Put"))
      // The first read was sent before the batch of puts, so it is left out.
      const values = yield* Fiber.joinAll(reads)
      assert.deepStrictEqual(values.slice(1), Array.from({ length: 19 }, (_, i) => Option.some(`v${i + 1}`)))
      assert.strictEqual(yield* direct.count(KeyRange.all), 20)
    }))

  it.effect("sends the second request only when all fibers that are ready to run have made their calls", () =>
    Effect.gen(function*() {
      const { respondToAll, kv, requests } = yield* make()
      const fibers = yield* forkAll(puts(kv, 20))
      assert.deepStrictEqual(requests.map((request) => opsOf(request).length), [0, 19])
      yield* respondToAll
      yield* Fiber.joinAll(fibers)
    }))

  it.effect("sends full requests beside those in flight, up to four times maxInFlight", () =>
    Effect.gen(function*() {
      const { respondToAll, kv, requests } = yield* make({ maxInFlight: 1, maxOps: 8 })
      const fibers = yield* forkAll(puts(kv, 50))
      assert.deepStrictEqual(requests.map((request) => opsOf(request).length), [0, 8, 8, 8])
      yield* requests[2]!.respond
      yield* settled
      assert.deepStrictEqual(requests.map((request) => opsOf(request).length), [0, 8, 8, 8, 8])
      yield* respondToAll
      yield* Fiber.joinAll(fibers)
    }))

  it.effect("sends no request early for calls that cannot share it, because they write one key", () =>
    Effect.gen(function*() {
      const { respondToAll, kv, requests } = yield* make({ maxInFlight: 2, maxOps: 8 })
      const fibers = yield* forkAll(Array.from({ length: 30 }, (_, i) => kv.put("hot", `${i}`)))
      assert.strictEqual(requests.length, 2)
      yield* respondToAll
      yield* Fiber.joinAll(fibers)
      assert.strictEqual(requests.length, 30)
    }))

  it.effect("gives each caller the response that its call would have had alone", () =>
    Effect.gen(function*() {
      const { respondToAll, direct, kv, requests } = yield* make({ maxInFlight: 1 })
      yield* direct.put("old", "before")
      yield* direct.put("gone", "bye")
      const fibers = yield* forkAll<unknown, KvError.KvError, never>([
        kv.put("first", "1"),
        kv.put("old", "after", { previous: true }),
        kv.testAndSet("new", Option.none(), "made"),
        kv.testAndSet("absent", Option.some("x"), "no"),
        kv.txn({ if: [Compare.exists("nothing")], then: [Op.put("then", "1")], else: [Op.get("nothing")] })
      ])
      yield* respondToAll
      assert.strictEqual(requests.length, 2)
      const [, old, made, absent, txn] = yield* Fiber.joinAll(fibers)
      assert.strictEqual((old as Op.PutResponse).previous.pipe(Option.getOrThrow).lossyText, "before")
      assert.strictEqual(
        (yield* direct.getEntry("old")).pipe(Option.getOrThrow).modRevision,
        (old as Op.PutResponse).revision
      )
      assert.strictEqual(made, true)
      assert.strictEqual(absent, false)
      assert.strictEqual((txn as Op.TxnResponse).succeeded, false)
      const deletes = yield* forkAll([kv.delete("old"), kv.delete("gone", { previous: true }), kv.delete("never")])
      yield* respondToAll
      const [, gone, never] = yield* Fiber.joinAll(deletes)
      assert.strictEqual(gone!.previous[0]?.lossyText, "bye")
      assert.strictEqual(never!.deleted, 0)
    }))

  it.effect("sends operations on ranges, past revisions, serializable reads and invalid operations alone", () =>
    Effect.gen(function*() {
      const { respondToAll, kv, requests } = yield* make({ maxInFlight: 1 })
      const fibers = yield* forkAll<unknown, KvError.KvError, never>([
        kv.put("a", "1"),
        kv.get("a"),
        kv.range(KeyRange.prefix("a")),
        kv.get("a", { revision: 1n }),
        kv.get("a", { serializable: true }),
        kv.deleteRange(KeyRange.prefix("a")),
        kv.txn({ then: [Op.put("b", "1"), Op.range(KeyRange.prefix("b"))] }),
        Effect.ignore(kv.put("", "1")),
        Effect.ignore(kv.put("c", "\ud800")),
        Effect.ignore(kv.txn({ then: [Op.put("c", "1"), Op.put("c", "2")] }))
      ])
      assert.strictEqual(requests.length, 10)
      yield* respondToAll
      yield* Fiber.joinAll(fibers)
    }))

  it.effect("never batches or delays a write with a lease, however deep in a transaction it is", () =>
    Effect.gen(function*() {
      const { respondToAll, direct, kv, requests } = yield* make({ maxInFlight: 1 })
      const { id } = yield* backendOf(direct).leaseGrant({ ttl: "1 minute" })
      const leased = Op.put("c", "1", { lease: id })
      const writes = [
        leased,
        Op.put("d", "1", { lease: id }),
        Op.txn({ if: [Compare.missing("e")], then: [Op.put("e", "1", { lease: id })] }),
        Op.txn({ then: [Op.put("f", "1")], else: [leased] }),
        Op.txn({ then: [Op.txn({ then: [Op.txn({ else: [leased] })] })] })
      ]
      const fibers = yield* forkAll<unknown, KvError.KvError, never>([
        ...puts(kv, 3),
        ...writes.map((op) => backendOf(kv).execute(op)),
        ...puts(kv, 3)
      ])
      assert.deepStrictEqual(requests.slice(1).map(({ op }) => op), writes)
      yield* respondToAll
      yield* Fiber.joinAll(fibers)
    }))

  it.effect("sends transactions and puts that request the previous entry alone if transactions is false", () =>
    Effect.gen(function*() {
      const { respondToAll, kv, requests } = yield* make({ maxInFlight: 1, transactions: false })
      const fibers = yield* forkAll<unknown, KvError.KvError, never>([
        kv.put("a", "1"),
        kv.put("b", "1"),
        kv.put("d", "1", { previous: true }),
        kv.testAndSet("e", Option.none(), "1")
      ])
      assert.deepStrictEqual(requests.map(({ op }) => op._tag), ["Put", "Put", "Txn"])
      yield* respondToAll
      yield* Fiber.joinAll(fibers)
    }))

  it.effect("never exceeds maxBytes and maxOps", () =>
    Effect.gen(function*() {
      const { respondToAll, kv, requests } = yield* make({ maxInFlight: 1, maxOps: 10, maxBytes: 10_000 })
      const small = yield* forkAll(puts(kv, 31))
      yield* respondToAll
      yield* Fiber.joinAll(small)
      assert.deepStrictEqual(requests.map((request) => opsOf(request).length), [0, 10, 10, 10])
      requests.length = 0
      const large = yield* forkAll(
        Array.from({ length: 9 }, (_, i) => kv.put(`l${i}`, new Uint8Array(i === 4 ? 20_000 : 4_000)))
      )
      yield* respondToAll
      yield* Fiber.joinAll(large)
      assert.strictEqual(
        requests.filter(({ op }) => op._tag === "Put").length,
        3,
        "the first one, the huge one and the last one"
      )
      assert.isTrue(requests.every((request) => opsOf(request).length <= 2))
    }))

  it.effect("throws a RangeError for invalid options", () =>
    Effect.gen(function*() {
      const backend = yield* Effect.flatMap(MemoryStore.make(), (store) => store.connect)
      for (const invalid of [0, -1, 0.5, Number.NaN, Number.POSITIVE_INFINITY]) {
        for (const name of ["maxOps", "maxBytes", "maxInFlight"] as const) {
          assert.throws(
            () => Batching.batched({ [name]: invalid })(backend),
            RangeError,
            `${name} must be a positive integer`
          )
        }
      }
      assert.isUndefined(Batching.check({ maxOps: 1, maxBytes: 1, maxInFlight: 1 }))
    }))

  it.effect("counts nested operations as etcd does: a transaction of n operations leaves maxOps - n to each nested one", () =>
    Effect.gen(function*() {
      const { respondToAll, kv, requests } = yield* make({ maxInFlight: 1, maxOps: 8 })
      const nested = (key: string, depth: number): Op.Op =>
        depth === 0 ? Op.put(key, "1") : Op.txn({ then: [nested(key, depth - 1)] })
      const fibers = yield* forkAll<unknown, KvError.KvError, never>([
        ...puts(kv, 6),
        kv.txn({ then: Array.from({ length: 4 }, (_, i) => Op.put(`t${i}`, "1")) }),
        kv.put("a", "1"),
        backendOf(kv).execute(nested("deep", 4)),
        ...Array.from({ length: 6 }, (_, i) => kv.put(`m${i}`, "1"))
      ])
      yield* respondToAll
      yield* Fiber.joinAll(fibers)
      assert.isTrue(requests.every(({ op }) => Check.op(op, { maxTxnOps: 8 }) === undefined))
      assert.isAtMost(requests.length, 5)
    }))

  it.effect("puts fewer reads into a batch if values are large", () =>
    Effect.gen(function*() {
      const { respondToAll, direct, kv, requests } = yield* make({ maxInFlight: 1 })
      for (let i = 0; i < 40; i++) yield* direct.put(`k${i}`, new Uint8Array(100_000))
      for (let round = 0; round < 3; round++) {
        requests.length = 0
        const fibers = yield* forkAll(Array.from({ length: 40 }, (_, i) => kv.getEntry(`k${i}`)))
        yield* respondToAll
        yield* Fiber.joinAll(fibers)
      }
      assert.isAtMost(Math.max(...requests.map((request) => opsOf(request).length)), 20)
    }))

  it.effect("sends transactions that read a large value alone if two responses would be too large", () =>
    Effect.gen(function*() {
      const { respondToAll, direct, kv, requests } = yield* make({ maxInFlight: 1 })
      yield* direct.put("large", new Uint8Array(1_200_000))
      const read = kv.txn({ then: [Op.get("large"), Op.get("small")] })
      for (let round = 0; round < 10; round++) {
        requests.length = 0
        const fibers = yield* forkAll(Array.from({ length: 5 }, () => read))
        yield* respondToAll
        yield* Fiber.joinAll(fibers)
      }
      assert.strictEqual(requests.length, 5)
    }))

  it.effect("sends queued calls after 50 milliseconds without a response, so that one call cannot block the others", () =>
    Effect.gen(function*() {
      const { kv, requests } = yield* make({ maxInFlight: 1 })
      yield* Effect.forkChild(Effect.ignore(kv.put("stuck", "1")), { startImmediately: true })
      const fibers = yield* forkAll(puts(kv, 3))
      assert.strictEqual(requests.length, 1)
      yield* TestClock.adjust("51 millis")
      assert.strictEqual(requests.length, 2)
      yield* requests[1]!.respond
      yield* Fiber.joinAll(fibers)
    }))

  it.effect("does not overflow the stack when ten thousand queued calls end synchronously", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const plain = yield* store.connect
      const closed = Deferred.makeUnsafe<void>()
      const wait: KvBackend = {
        ...plain,
        execute: (op) => Effect.andThen(Deferred.await(closed), plain.execute(op))
      }
      const kv = yield* Kv.make(Batching.batched({ maxInFlight: 1 })(wait))
      const fibers = yield* forkAll(Array.from({ length: 10_000 }, (_, i) => kv.put("hot", `${i}`)))
      yield* Deferred.succeed(closed, undefined)
      yield* Fiber.joinAll(fibers)
      assert.deepStrictEqual(yield* kv.get("hot"), Option.some("9999"))
    }))

  it.effect("never puts two operations on one key into a batch, unless both only read it", () =>
    Effect.gen(function*() {
      const { respondToAll, direct, kv, requests } = yield* make({ maxInFlight: 1 })
      const increments = yield* forkAll(
        Array.from({ length: 12 }, () => kv.modify("n", (n) => `${Number(Option.getOrElse(n, () => "0")) + 1}`))
      )
      yield* respondToAll
      yield* Fiber.joinAll(increments)
      assert.deepStrictEqual(yield* direct.get("n"), Option.some("12"))
      requests.length = 0
      const fibers = yield* forkAll([...Array.from({ length: 4 }, (_, i) => kv.put("same", `${i}`)), ...puts(kv, 4)])
      yield* respondToAll
      yield* Fiber.joinAll(fibers)
      assert.deepStrictEqual(requests.map((request) => opsOf(request).length || 1), [1, 5, 1, 1])
    }))

  const key = oneOf(Array.from("abcdefghijklmnopqrstuvwxyz"))
  const single: Arbitrary.Arbitrary<Op.Op> = either<Op.Op>(
    Arbitrary.map(key, (key) => Op.put(key, "v")),
    Arbitrary.map(key, (key) => Op.get(key)),
    Arbitrary.map(key, (key) => Op.delete(key))
  )
  const anyOp: Arbitrary.Arbitrary<Op.Op> = either<Op.Op>(
    single,
    Arbitrary.map(
      Arbitrary.all([key, Arbitrary.array(single, { maxLength: 4 }), Arbitrary.array(single, { maxLength: 2 })]),
      ([key, then, otherwise]) => Op.txn({ if: [Compare.exists(key)], then, else: otherwise })
    )
  )

  it.effect.prop(
    "makes valid transactions whose results are those of the single operations in some order",
    { ops: Arbitrary.array(anyOp, { minLength: 2, maxLength: 60 }), maxOps: integer(4, 12) },
    ({ maxOps, ops }) =>
      Effect.gen(function*() {
        const { respondToAll, direct, kv, requests } = yield* make({ maxOps })
        const fibers = yield* forkAll(ops.map((op) => Effect.exit(backendOf(kv).execute(op))))
        yield* respondToAll
        const exits = yield* Fiber.joinAll(fibers)
        for (const { op } of requests) {
          if (op._tag !== "Txn" || ops.includes(op)) continue
          assert.isUndefined(Check.op(op, { maxTxnOps: maxOps }))
          assert.isTrue(op.then.every((op) => Op.isWrite(op)) || !Op.isWrite(op), "reads and writes are separate")
        }
        // Executes the same operations one by one, in the order in which they were sent.
        const order = requests.flatMap(({ op }) => ops.includes(op) ? [op] : opsOf({ op } as PendingRequest))
        assert.strictEqual(new Set(order).size, ops.length, "each was sent once")
        const store = yield* Effect.flatMap(MemoryStore.make(), (store) => store.connect)
        const expected = new Map<Op.Op, unknown>()
        for (const op of order) expected.set(op, comparable(yield* Effect.exit(store.execute(op))))
        ops.forEach((op, i) => assert.deepStrictEqual(comparable(exits[i]!), expected.get(op)))
        const left = yield* direct.range(KeyRange.all)
        const alone = yield* execute(store, Op.range(KeyRange.all))
        assert.deepStrictEqual(left.entries.map(textOf), alone.entries.map(textOf))
      }).pipe(Effect.scoped),
    { arbitrary: { runs: 200 } }
  )
})

const textOf = (entry: { readonly key: string; readonly lossyText: string; readonly version: number }) =>
  `${entry.key}=${entry.lossyText}@${entry.version}`

/** The parts of a result that do not depend on which writes share a revision. */
const comparable = (exit: Exit.Exit<Op.Response, KvError.KvError>): unknown =>
  Exit.match(exit, { onSuccess: shape, onFailure: (cause) => cause.reasons.map((reason) => reason._tag) })

const shape = (response: Op.Response): unknown => {
  switch (response._tag) {
    case "Range":
      return { entries: response.entries.map(textOf), count: response.count, more: response.more }
    case "Put":
      return { previous: Option.map(response.previous, textOf) }
    case "Delete":
      return { deleted: response.deleted }
    case "Txn":
      return { succeeded: response.succeeded, responses: response.responses.map(shape) }
  }
}

describe("batched calls", () => {
  it.effect("interrupting one caller does not affect the batch; a batch with no callers left is cancelled", () =>
    Effect.gen(function*() {
      const { direct, kv, requests } = yield* make({ maxInFlight: 2 })
      const [first, ...others] = yield* forkAll(puts(kv, 5))
      assert.strictEqual(opsOf(requests[1]).length, 4)
      yield* Fiber.interrupt(others[0]!)
      assert.isFalse(requests[1]!.wasCancelled)
      yield* requests[1]!.respond
      yield* Fiber.joinAll(others.slice(1))
      yield* Fiber.interrupt(first!)
      assert.isTrue(requests[0]!.wasCancelled)
      assert.strictEqual(yield* direct.count(KeyRange.all), 4)
    }))

  it.effect("a queued call whose caller is interrupted is never sent", () =>
    Effect.gen(function*() {
      const { respondToAll, direct, kv, requests } = yield* make({ maxInFlight: 1 })
      const fibers = yield* forkAll(puts(kv, 4))
      yield* Fiber.interrupt(fibers[2]!)
      yield* respondToAll
      assert.strictEqual(requests.length, 2)
      assert.isFalse(Option.isSome(yield* direct.get("k2")))
      assert.strictEqual(yield* direct.count(KeyRange.all), 3)
    }))

  it.effect("interrupting all callers cancels their requests and stops the timer", () =>
    Effect.gen(function*() {
      const { kv, requests } = yield* make({ maxInFlight: 1 })
      const fibers = yield* forkAll(puts(kv, 200))
      yield* requests[0]!.respond
      yield* settled
      yield* Fiber.interruptAll(fibers)
      assert.isAbove(requests.length, 1)
      assert.isTrue(requests.slice(1).every((request) => request.wasCancelled))
      const before = requests.length
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(requests.length, before)
    }))

  it.effect("each call has its own deadline, queued or in flight, and a call that was not sent fails as such", () =>
    Effect.gen(function*() {
      const { kv, requests } = yield* make({ maxInFlight: 1, deadline: "4 seconds" })
      const fail = <A>(effect: Effect.Effect<A, KvError.KvError>) =>
        Effect.forkChild(Effect.map(Effect.flip(effect), (error) => error.reason._tag), { startImmediately: true })
      // The test's store enforces no deadlines, so this call stays in flight.
      yield* Effect.forkChild(kv.put("stuck", "1"), { startImmediately: true })
      const queued = yield* fail(kv.put("a", "1").pipe(Deadline.within("10 millis")))
      yield* TestClock.adjust("10 millis")
      assert.strictEqual(yield* Fiber.join(queued), "DeadlineExceeded")
      const short = yield* fail(kv.put("b", "1").pipe(Deadline.within("1 second")))
      const long = yield* fail(kv.put("c", "1"))
      yield* TestClock.adjust("60 millis")
      assert.deepStrictEqual(opsOf(requests[1]).map((op) => op._tag === "Put" ? op.key : ""), ["b", "c"])
      yield* TestClock.adjust("940 millis")
      assert.strictEqual(yield* Fiber.join(short), "Indeterminate")
      assert.isUndefined(long.pollUnsafe())
      assert.isFalse(requests[1]!.wasCancelled)
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(yield* Fiber.join(long), "Indeterminate")
      assert.isTrue(requests[1]!.wasCancelled)
      assert.strictEqual(requests.length, 2)
    }))

  /** A batching client whose requests are sent once it is connected. */
  const connecting = Effect.gen(function*() {
    const plain = yield* Effect.flatMap(MemoryStore.make(), (store) => store.connect)
    const connected = Deferred.makeUnsafe<void>()
    const unsent = KvError.fail(new KvError.Unavailable({ message: "cancelled" }))
    const backend: KvBackend = {
      ...plain,
      execute: (op) =>
        Effect.gen(function*() {
          const sendControl = yield* SendControl.Current
          let wasSent = false
          sendControl?.track(() => wasSent)
          yield* Deferred.await(connected)
          if (sendControl?.isCancelled() === true) return yield* unsent
          wasSent = true
          return yield* plain.execute(op)
        })
    }
    const kv = yield* Kv.make(Batching.batched({ maxInFlight: 1 })(backend))
    return { kv, connect: Deferred.succeed(connected, undefined), direct: yield* Kv.make(plain) }
  })

  it.effect("the operation of an interrupted caller is not sent any more, but those of the others are", () =>
    Effect.gen(function*() {
      const { connect, direct, kv } = yield* connecting
      const fibers = yield* forkAll(puts(kv, 5))
      yield* TestClock.adjust("51 millis")
      yield* Fiber.interrupt(fibers[2]!)
      yield* direct.put("k2", "newer")
      yield* connect
      yield* Fiber.joinAll([0, 1, 3, 4].map((i) => fibers[i]!))
      assert.deepStrictEqual(
        (yield* direct.range(KeyRange.all)).entries.map(textOf),
        ["k0=v0@1", "k1=v1@1", "k2=newer@1", "k3=v3@1", "k4=v4@1"]
      )
    }))

  it.effect("a write whose deadline passes before it is sent fails as not applied, and is never sent", () =>
    Effect.gen(function*() {
      const { connect, direct, kv } = yield* connecting
      const first = yield* Effect.forkChild(kv.put("first", "1"), { startImmediately: true })
      const short = yield* Effect.forkChild(Effect.flip(kv.put("short", "1").pipe(Deadline.within("1 second"))))
      const long = yield* Effect.forkChild(kv.put("long", "1"))
      yield* TestClock.adjust("1 second")
      const error = yield* Fiber.join(short)
      assert.strictEqual(error.reason._tag, "Unavailable")
      assert.isTrue(error.isRetryable)
      yield* connect
      yield* Fiber.joinAll([first, long])
      assert.deepStrictEqual((yield* direct.range(KeyRange.all)).entries.map(({ key }) => key), ["first", "long"])
    }))

  it.effect("calls under different clocks are not batched together, and each follows its own clock", () =>
    Effect.gen(function*() {
      const { kv, requests } = yield* make({ maxInFlight: 1, deadline: "5 seconds" })
      // These run under the test clock, which stands still.
      const fibers = yield* forkAll(puts(kv, 3))
      const live = puts(kv, 3).map((put) => Effect.flip(Deadline.within(put, "400 millis")))
      const errors = yield* TestClock.withLive(
        Effect.forkChild(Effect.ignore(kv.put("stuck", "1")), { startImmediately: true }).pipe(
          Effect.andThen(Effect.forEach(live, Function.identity, { concurrency: "unbounded" }))
        )
      )
      assert.strictEqual(errors.length, 3)
      assert.isTrue(fibers.every((fiber) => fiber.pollUnsafe() === undefined))
      assert.isAbove(requests.length, 2)
    }))

  it.effect("a queued call is sent after 50 milliseconds even if an earlier one was interrupted", () =>
    Effect.gen(function*() {
      const { kv, requests } = yield* make({ maxInFlight: 1, deadline: "5 seconds" })
      const [, first, second] = yield* forkAll(puts(kv, 3))
      yield* settled
      yield* Fiber.interrupt(first!)
      yield* TestClock.adjust("50 millis")
      assert.strictEqual(second!.pollUnsafe(), undefined, "its deadline is far away")
      assert.lengthOf(requests, 2, "it was queued for 50 milliseconds, so it is sent")
      yield* requests[1]!.respond
      yield* Fiber.join(second!)
      yield* requests[0]!.respond
    }))

  it.effect("a read whose deadline passes fails with DeadlineExceeded, not Indeterminate", () =>
    Effect.gen(function*() {
      const { kv } = yield* make({ maxInFlight: 2, deadline: "1 second" })
      const fibers = yield* forkAll(["a", "b", "c"].map((key) => Effect.flip(kv.get(key))))
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Fiber.join(fibers[1]!)).reason._tag, "DeadlineExceeded")
      assert.strictEqual((yield* Fiber.join(fibers[2]!)).reason._tag, "DeadlineExceeded")
    }))

  it.effect("a lost response makes every write of the batch indeterminate, and none is sent again", () =>
    Effect.gen(function*() {
      const { respondToAll, direct, kv, requests } = yield* make({ maxInFlight: 1 })
      const fibers = yield* forkAll(puts(kv, 5).map(Effect.exit))
      yield* requests[0]!.respond
      yield* settled
      yield* requests[1]!.fail(new KvError.Indeterminate({ message: "the response was lost" }), { apply: true })
      yield* respondToAll
      const exits = yield* Fiber.joinAll(fibers)
      assert.deepStrictEqual(exits.map((exit) => Exit.isSuccess(exit)), [true, false, false, false, false])
      assert.strictEqual(requests.length, 2)
      const { entries } = yield* direct.range(KeyRange.all)
      assert.isTrue(entries.every((entry) => entry.version === 1), "each was applied once")
    }))

  /** A store that rejects every request that puts the key "denied". */
  const denying = (backend: KvBackend): KvBackend => ({
    ...backend,
    execute: (op) =>
      [op, ...opsOf({ op } as PendingRequest)].some((op) => op._tag === "Put" && op.key === "denied")
        ? KvError.fail(new KvError.PermissionDenied({ message: "permission denied" }))
        : backend.execute(op)
  })

  it.effect("a rejected operation does not affect the others: each is applied once and has its own response", () =>
    Effect.gen(function*() {
      const { respondToAll, direct, kv, requests } = yield* make({ maxInFlight: 1 }, denying)
      const fibers = yield* forkAll([
        ...puts(kv, 20),
        kv.put("denied", "1"),
        ...Array.from({ length: 20 }, (_, i) => kv.put(`m${i}`, "1"))
      ].map(Effect.exit))
      yield* respondToAll
      const exits = yield* Fiber.joinAll(fibers)
      const rejected = exits.filter(Exit.isFailure)
      assert.strictEqual(rejected.length, 1)
      assert.strictEqual(exits.indexOf(rejected[0]!), 20)
      assert.include(String(rejected[0]!.cause), "PermissionDenied")
      const { entries } = yield* direct.range(KeyRange.all)
      assert.strictEqual(entries.length, 40)
      assert.isTrue(entries.every((entry) => entry.version === 1), "each was applied once")
      assert.isAtMost(requests.length, 14, "halving finds the rejected one")
    }))

  it.effect("a backend that throws is a defect for the callers of that request and for no others", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const plain = yield* store.connect
      let isBroken = true
      const backend: KvBackend = {
        ...plain,
        execute: (op) => {
          if (isBroken) throw new Error("broken")
          return Effect.andThen(Effect.yieldNow, plain.execute(op))
        }
      }
      const kv = yield* Kv.make(Batching.batched({ maxInFlight: 1 })(backend))
      const all = Effect.forEach(puts(kv, 5), Effect.exit, { concurrency: "unbounded" })
      const defects = (exits: ReadonlyArray<Exit.Exit<unknown, unknown>>) => exits.filter(Exit.hasDies).length
      assert.strictEqual(defects(yield* all), 5)
      isBroken = false
      assert.isTrue((yield* all).every(Exit.isSuccess))
      const running = yield* Effect.forkChild(all)
      yield* Effect.yieldNow
      isBroken = true
      assert.strictEqual(defects(yield* Fiber.join(running)), 4)
    }))

  it.effect("no write is sent again if the store was full, because one may have been applied", () =>
    Effect.gen(function*() {
      const { respondToAll, kv, requests } = yield* make({ maxInFlight: 1 })
      const fibers = yield* forkAll(puts(kv, 5).map(Effect.flip))
      const full = new KvError.QuotaExceeded({ message: "the store is full" })
      yield* requests[0]!.fail(full)
      yield* settled
      yield* requests[1]!.fail(full)
      yield* respondToAll
      const errors = yield* Fiber.joinAll(fibers)
      assert.isTrue(errors.every((error) => error.reason._tag === "QuotaExceeded"))
      assert.strictEqual(requests.length, 2)
    }))
})
