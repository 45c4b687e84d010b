import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import * as sharedTimer from "../src/internal/session/sharedTimer.ts"

const open = Effect.gen(function*() {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const after = yield* Scope.provide(sharedTimer.make(Duration.millis(200)), scope)
  const called: Array<string> = []
  return { scope, called, add: (name: string) => after(() => called.push(name)) }
})

describe("sharedTimer", () => {
  it.effect("calls each function when its delay has passed, in order, and not before", () =>
    Effect.gen(function*() {
      const { add, called } = yield* open
      add("a")
      yield* TestClock.adjust("199 millis")
      add("b")
      assert.deepStrictEqual(called, [])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(called, ["a"])
      yield* TestClock.adjust("199 millis")
      assert.deepStrictEqual(called, ["a", "b"])
      add("c")
      yield* TestClock.adjust("200 millis")
      assert.deepStrictEqual(called, ["a", "b", "c"])
    }))

  it.effect("does not call a cancelled function, and does not delay the others", () =>
    Effect.gen(function*() {
      const { add, called } = yield* open
      const cancel = add("a")
      yield* TestClock.adjust("100 millis")
      add("b")
      cancel()
      yield* TestClock.adjust("200 millis")
      assert.deepStrictEqual(called, ["b"])
    }))

  it.effect("wakes up once for each delay, however many calls were cancelled meanwhile", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      let sleeps = 0
      const counting: Clock.Clock = Object.assign(Object.create(clock), {
        sleep: (duration: Duration.Duration) => {
          sleeps += 1
          return clock.sleep(duration)
        }
      })
      const { add, called } = yield* Effect.provideService(open, Clock.Clock, counting)
      for (let i = 0; i < 100; i++) {
        const cancel = add("a")
        yield* TestClock.adjust("5 millis")
        cancel()
        yield* TestClock.adjust("5 millis")
      }
      assert.isAtMost(sleeps, 1000 / 200 + 1)
      assert.deepStrictEqual(called, [])
    }))

  it.effect("calls every function, whatever fractions of a millisecond the clock shows", () =>
    Effect.gen(function*() {
      const { add, called } = yield* open
      for (let i = 0; i < 50; i++) {
        yield* TestClock.adjust(Duration.nanos(1_234_567n))
        add("a")
      }
      yield* TestClock.adjust("201 millis")
      assert.strictEqual(called.length, 50)
    }))

  it.effect("calls no function once its scope is closed", () =>
    Effect.gen(function*() {
      const { add, called, scope } = yield* open
      add("a")
      yield* Scope.close(scope, Exit.void)
      add("b")
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(called, [])
    }))
})
