/**
 * Turns: how many statements of a client are in flight at once.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { type Entrant, Turns } from "../src/internal/turns.ts"

const setup = (count: number) => {
  const turns = new Turns(count)
  const started: Array<string> = []
  const enter = (name: string, start?: () => void): Entrant => {
    const entrant = {
      start: () => {
        started.push(name)
        start?.()
      }
    }
    turns.enter(entrant)
    return entrant
  }
  return { turns, started, enter }
}

const microtask = Effect.promise(() => Promise.resolve())

describe("turns", () => {
  it.effect("go to the first that come, and then to those that wait, in their order", () =>
    Effect.gen(function*() {
      const { enter, started, turns } = setup(2)
      for (const name of ["a", "b", "c", "d", "e"]) enter(name)
      assert.deepStrictEqual(started, ["a", "b"])
      turns.leave()
      yield* microtask
      assert.deepStrictEqual(started, ["a", "b", "c"])
      turns.leave()
      turns.leave()
      yield* microtask
      assert.deepStrictEqual(started, ["a", "b", "c", "d", "e"])
    }))

  it.effect("are not taken by one that comes while others wait", () =>
    Effect.gen(function*() {
      const { enter, started, turns } = setup(1)
      enter("a")
      enter("b")
      turns.leave()
      enter("c")
      assert.deepStrictEqual(started, ["a"])
      yield* microtask
      assert.deepStrictEqual(started, ["a", "b"])
      turns.leave()
      yield* microtask
      assert.deepStrictEqual(started, ["a", "b", "c"])
    }))

  it.effect("are free again when none waits", () =>
    Effect.gen(function*() {
      const { enter, started, turns } = setup(1)
      enter("a")
      turns.leave()
      enter("b")
      assert.deepStrictEqual(started, ["a", "b"])
      enter("c")
      yield* microtask
      assert.deepStrictEqual(started, ["a", "b"])
    }))

  it.effect("do not go to one that gave up, even together with the one before it", () =>
    Effect.gen(function*() {
      const { enter, started, turns } = setup(1)
      enter("a")
      const b = enter("b")
      enter("c")
      turns.leave()
      turns.abandon(b)
      yield* microtask
      assert.deepStrictEqual(started, ["a", "c"])
    }))

  it.effect("that end as soon as they begin go on to all that wait", () =>
    Effect.gen(function*() {
      const { enter, started, turns } = setup(1)
      const names = Array.from({ length: 20_000 }, (_, i) => `${i}`)
      enter("first")
      for (const name of names) enter(name, () => turns.leave())
      turns.leave()
      yield* microtask
      yield* microtask
      assert.deepStrictEqual(started, ["first", ...names])
      enter("a")
      enter("b")
      assert.deepStrictEqual(started.slice(-1), ["a"])
    }))
})
