/**
 * Turns: their order, and that a fiber that ends early does not block the others.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import type * as KvError from "@effect-kv/core/KvError"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"
import { Turns } from "../src/internal/kv/turns.ts"

/** Effects in one queue that run until the test ends them. */
const make = (count: number) => {
  const turns = new Turns<number>()
  const running: Array<number> = []
  const gates = Array.from({ length: count }, () => Deferred.makeUnsafe<void>())
  const run = (i: number) =>
    turns.run("k", () => {
      running.push(i)
      return Deferred.await(gates[i]!)
    })
  return { turns, running, run, end: (i: number) => Effect.andThen(Deferred.succeed(gates[i]!, undefined), settled) }
}

const settled = Effect.forEach(Array.from({ length: 5 }), () => Effect.yieldNow, { discard: true })

const forkAll = <A, E>(effects: ReadonlyArray<Effect.Effect<A, E>>) =>
  Effect.tap(Effect.forEach(effects, (effect) => Effect.forkChild(effect)), () => settled)

const tagOf = (exit: Exit.Exit<unknown, KvError.KvError>) => {
  const reason = Exit.isFailure(exit) ? exit.cause.reasons[0] : undefined
  return reason?._tag === "Fail" ? reason.error.reason._tag : undefined
}

describe("turns", () => {
  it.effect("of one key are taken one at a time in order, turns of different keys concurrently, and no queue is left", () =>
    Effect.gen(function*() {
      const { end, run, running, turns } = make(3)
      const fibers = yield* forkAll([run(0), run(1), run(2)])
      const other = turns.run("other", () => Effect.succeed("at once"))
      for (let i = 0; i < 3; i++) {
        assert.deepStrictEqual(running, [0, 1, 2].slice(0, i + 1))
        assert.strictEqual(yield* other, "at once")
        yield* end(i)
      }
      yield* Fiber.joinAll(fibers)
      assert.strictEqual(turns.size, 0)
    }))

  it.effect("skip fibers that were interrupted while they waited or ran", () =>
    Effect.gen(function*() {
      const { end, run, running, turns } = make(5)
      const fibers = yield* forkAll([0, 1, 2, 3, 4].map(run))
      yield* Fiber.interrupt(fibers[2]!)
      yield* Fiber.interrupt(fibers[4]!)
      assert.deepStrictEqual(running, [0])
      yield* Fiber.interrupt(fibers[0]!)
      yield* settled
      assert.deepStrictEqual(running, [0, 1])
      yield* end(1)
      yield* Fiber.interrupt(fibers[3]!)
      assert.strictEqual(turns.size, 0)
      assert.strictEqual(yield* turns.run("k", () => Effect.succeed("free")), "free")
    }))

  it.effect("survive an interruption at every step of passing them on", () =>
    Effect.gen(function*() {
      for (let steps = 0; steps < 12; steps++) {
        const turns = new Turns<number>()
        const busy = turns.run("k", () => Effect.yieldNow)
        const [, victim, ...others] = yield* Effect.forEach([busy, busy, busy, busy], (each) => Effect.forkChild(each))
        for (let i = 0; i < steps; i++) yield* Effect.yieldNow
        yield* Fiber.interrupt(victim!)
        yield* Fiber.joinAll(others)
        assert.strictEqual(turns.size, 0, `after ${steps} steps`)
      }
    }))

  it.effect("are passed on when an effect fails or dies, or the function that makes it throws", () =>
    Effect.gen(function*() {
      const turns = new Turns<number>()
      const thrown = () => {
        throw new Error("thrown")
      }
      const effects: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
        turns.run("k", () => Effect.andThen(Effect.yieldNow, Effect.fail("failed"))),
        turns.run("k", () => Effect.die("died")),
        turns.run("k", thrown),
        turns.run("k", () => Effect.succeed("done"))
      ]
      const exits = yield* Effect.forEach(effects, (each) => Effect.exit(each), { concurrency: "unbounded" })
      assert.deepStrictEqual(exits.map(Exit.isSuccess), [false, false, false, true])
      assert.strictEqual(turns.size, 0)
    }))

  it.effect("are waited for as long as an earlier effect succeeds within each fiber's own deadline", () =>
    Effect.gen(function*() {
      const { end, run, running } = make(4)
      const fibers = yield* forkAll(
        [run(0), run(1), run(2), run(3).pipe(Deadline.within("10 seconds"))].map(Effect.exit)
      )
      yield* TestClock.adjust("4 seconds")
      yield* end(0)
      yield* TestClock.adjust("4 seconds")
      yield* end(1)
      assert.deepStrictEqual(running, [0, 1, 2])
      // A failure does not show that the store responds, so it does not prolong the wait.
      yield* Fiber.interrupt(fibers[2]!)
      yield* settled
      assert.deepStrictEqual(running, [0, 1, 2, 3])
      yield* end(3)
      assert.isTrue(Exit.isSuccess(yield* Fiber.join(fibers[3]!)))
    }))

  it.effect("are not waited for longer when earlier effects fail", () =>
    Effect.gen(function*() {
      const turns = new Turns<number>()
      const failing = turns.run("k", () => Effect.andThen(Effect.sleep("4 seconds"), Effect.fail("failed")))
      const fibers = yield* forkAll([failing, failing, failing, failing].map(Effect.exit))
      yield* TestClock.adjust("5 seconds")
      assert.isUndefined(fibers[1]!.pollUnsafe(), "it has its turn")
      yield* TestClock.adjust("1 second")
      const exits = yield* Effect.forEach([fibers[2]!, fibers[3]!], Fiber.join)
      assert.isTrue(exits.every(Exit.isFailure))
      assert.strictEqual(turns.size, 1)
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(turns.size, 0)
    }))

  it.effect("are waited for at most for the fiber's deadline if no effect succeeds, even in an uninterruptible fiber", () =>
    Effect.gen(function*() {
      const { end, run, running, turns } = make(5)
      const fibers = yield* forkAll([
        run(0),
        run(1).pipe(Deadline.within("100 millis")),
        Effect.uninterruptible(run(2).pipe(Deadline.within("200 millis"))),
        run(3),
        run(4).pipe(Deadline.within("10 seconds"))
      ].map(Effect.exit))
      yield* TestClock.adjust("100 millis")
      assert.strictEqual(tagOf(yield* Fiber.join(fibers[1]!)), "DeadlineExceeded")
      assert.isUndefined(fibers[2]!.pollUnsafe())
      yield* TestClock.adjust("100 millis")
      assert.strictEqual(tagOf(yield* Fiber.join(fibers[2]!)), "DeadlineExceeded")
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(tagOf(yield* Fiber.join(fibers[3]!)), "DeadlineExceeded")
      yield* end(0)
      assert.deepStrictEqual(running, [0, 4])
      // The deadline only limits the wait for the turn.
      yield* TestClock.adjust("1 minute")
      yield* end(4)
      assert.isTrue(Exit.isSuccess(yield* Fiber.join(fibers[4]!)))
      assert.strictEqual(turns.size, 0)
    }))

  it.effect("are not waited for by an effect that already has the turn of the key", () =>
    Effect.gen(function*() {
      const turns = new Turns<number>()
      const within = turns.run("k", () => Effect.succeed("within"))
      assert.strictEqual(yield* turns.run("k", () => within), "within")
      assert.strictEqual(turns.size, 0)
    }))

  it.effect("pass a note to the next effect only", () =>
    Effect.gen(function*() {
      const turns = new Turns<number>()
      const seen: Array<number | undefined> = []
      const leaving = (note: number | undefined) =>
        turns.run("k", (turn) => {
          seen.push(turn.take())
          if (note !== undefined) turn.leave(note)
          return Effect.yieldNow
        })
      yield* Effect.all([leaving(1), leaving(undefined), leaving(3), leaving(4)], { concurrency: "unbounded" })
      yield* leaving(5)
      assert.deepStrictEqual(seen, [undefined, 1, undefined, 3, undefined])
    }))

  it.effect("do not overflow the stack when ten thousand queued effects end synchronously", () =>
    Effect.gen(function*() {
      const { end, run, turns } = make(1)
      let count = 0
      const counting = turns.run("k", () => Effect.sync(() => count++))
      const fibers = yield* forkAll([run(0), ...Array.from({ length: 10_000 }, () => counting)])
      yield* end(0)
      yield* Fiber.joinAll(fibers)
      assert.strictEqual(count, 10_000)
    }))
})
