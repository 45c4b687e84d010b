/**
 * Reservations of keys: which writes wait for them, for how long, and that none waits indefinitely.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import type * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"
import * as reservations from "../src/internal/kv/reservations.ts"

const settled = Effect.forEach(Array.from({ length: 10 }), () => Effect.yieldNow, { discard: true })

/** A client that records the values put, and whose reservation of `k` lasts until the test ends it. */
const make = Effect.fnUntraced(function*() {
  const client = {}
  const store = yield* MemoryStore.make()
  const plain = yield* store.connect
  const values: Array<string> = []
  const deadlines: Array<number | undefined> = []
  /** Puts of the value `slow` are executed when the test says so. */
  const slow = yield* Deferred.make<void>()
  const recording: KvBackend = {
    ...plain,
    execute: (op) =>
      Effect.flatMap(Deadline.Deadline, (deadline) => {
        deadlines.push(deadline && Duration.toMillis(deadline))
        if (op._tag !== "Put") return plain.execute(op)
        values.push(`${op.value}`)
        return op.value === "slow" ? Effect.andThen(Deferred.await(slow), plain.execute(op)) : plain.execute(op)
      })
  }
  const backend = reservations.gated(recording, client)
  const gate = yield* Deferred.make<void>()
  const put = (value: string, key = "k") => Effect.suspend(() => backend.execute(Op.put(key, value)))
  const reserve = (ranges = [KeyRange.key("k")], body: Effect.Effect<unknown, KvError.KvError> = put("own")) =>
    reservations.contending(
      client,
      reservations.reserving(client, ranges, Effect.andThen(body, Deferred.await(gate)))
    )
  return { backend, client, deadlines, end: Deferred.succeed(gate, undefined), put, reserve, slow, values }
})

const fork = <A, E>(effect: Effect.Effect<A, E>) => Effect.tap(Effect.forkChild(effect), () => settled)

const tagOf = (exit: Exit.Exit<unknown, KvError.KvError>) => {
  const reason = Exit.isFailure(exit) ? exit.cause.reasons[0] : undefined
  return reason?._tag === "Fail" ? reason.error.reason._tag : undefined
}

describe("reservations", () => {
  it.effect("make writes of their keys wait in order, and no others", () =>
    Effect.gen(function*() {
      const { backend, end, put, reserve, values } = yield* make()
      const owner = yield* fork(reserve())
      const ops = [
        Op.deleteRange(KeyRange.prefix("")),
        Op.deleteRange(KeyRange.halfOpen("", "l")),
        Op.txn({ if: [], then: [], else: [Op.txn({ then: [Op.delete("k")] })] })
      ]
      const waiting = yield* Effect.forEach(["1", "2", "3"], (value) => fork(put(value)))
      const others = yield* Effect.forEach(ops, (op) => fork(backend.execute(op)))
      yield* put("other", "other")
      yield* backend.execute(Op.get("k"))
      yield* backend.execute(Op.deleteRange(KeyRange.from("l")))
      yield* settled
      assert.deepStrictEqual(values, ["own", "other"])
      for (const fiber of others) assert.isUndefined(fiber.pollUnsafe())
      yield* end
      yield* Fiber.joinAll<Array<Fiber.Fiber<unknown, KvError.KvError>>>([owner, ...waiting, ...others])
      assert.deepStrictEqual(values, ["own", "other", "1", "2", "3"])
      yield* put("4")
    }))

  it.effect("end when their owner is interrupted or fails", () =>
    Effect.gen(function*() {
      const { backend, put, reserve } = yield* make()
      const interrupted = yield* fork(reserve())
      const first = yield* fork(put("1"))
      yield* Fiber.interrupt(interrupted)
      yield* Fiber.join(first)
      const failing = yield* fork(reserve([KeyRange.key("k")], backend.execute(Op.get(""))))
      assert.isTrue(Exit.isFailure(yield* Fiber.await(failing)))
      yield* put("2")
    }))

  it.effect("are waited for within the deadline of the write, even if it is uninterruptible, and for at most a second", () =>
    Effect.gen(function*() {
      const { deadlines, put, reserve, values } = yield* make()
      yield* fork(reserve())
      const fibers = yield* Effect.forEach([
        put("1").pipe(Deadline.within("100 millis")),
        Effect.uninterruptible(put("2").pipe(Deadline.within("200 millis"))),
        put("3").pipe(Deadline.within("5 seconds")),
        put("4")
      ], (effect) => fork(Effect.exit(effect)))
      const waiting = () => fibers.map((fiber) => fiber.pollUnsafe() === undefined)
      assert.deepStrictEqual(waiting(), [true, true, true, true])
      yield* TestClock.adjust("100 millis")
      assert.deepStrictEqual(waiting(), [false, true, true, true])
      yield* TestClock.adjust("100 millis")
      assert.deepStrictEqual(waiting(), [false, false, true, true])
      yield* TestClock.adjust("800 millis")
      const exits = yield* Fiber.joinAll(fibers)
      assert.deepStrictEqual(exits.map(tagOf), ["DeadlineExceeded", "DeadlineExceeded", undefined, undefined])
      assert.deepStrictEqual(values, ["own", "3", "4"])
      assert.deepStrictEqual(deadlines, [undefined, 4000, undefined])
    }))

  it.effect("forget a write that is interrupted while it waits", () =>
    Effect.gen(function*() {
      const { end, put, reserve, values } = yield* make()
      const owner = yield* fork(reserve())
      const first = yield* fork(put("1"))
      const second = yield* fork(put("2"))
      yield* Fiber.interrupt(first)
      yield* end
      yield* Fiber.joinAll<Array<Fiber.Fiber<unknown, KvError.KvError>>>([owner, second])
      assert.deepStrictEqual(values, ["own", "2"])
    }))

  it.effect("begin when earlier writes of their keys have ended, at most a second later", () =>
    Effect.gen(function*() {
      for (const isEnded of [true, false]) {
        const { client, put, reserve, slow, values } = yield* make()
        // Writes are recorded only while a conflict has been seen.
        yield* fork(reservations.contending(client, Effect.never))
        yield* fork(put("slow"))
        yield* fork(put("slow", "other"))
        yield* fork(reserve())
        yield* fork(put("late"))
        assert.deepStrictEqual(values, ["slow", "slow"])
        if (isEnded) yield* Deferred.succeed(slow, undefined)
        else yield* TestClock.adjust("1 second")
        yield* settled
        assert.deepStrictEqual(values.slice(0, 3), ["slow", "slow", "own"])
      }
    }))

  it.effect("of overlapping keys do not wait for each other", () =>
    Effect.gen(function*() {
      const { end, put, reserve, values } = yield* make()
      const nested = reserve([KeyRange.prefix("")], put("nested"))
      const owner = yield* fork(reserve([KeyRange.key("k")], nested))
      const second = yield* fork(reserve([KeyRange.prefix("k")], Effect.void))
      assert.deepStrictEqual(values, ["nested"])
      yield* end
      yield* Fiber.joinAll<Array<Fiber.Fiber<unknown, KvError.KvError>>>([owner, second])
    }))
})
