/**
 * What is noted of a connection's traffic.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Traffic } from "../src/internal/rpc/link.ts"

describe("the traffic of a connection", () => {
  it.effect("wakes a fiber once for each time that the server is heard, also if it waits again at once", () =>
    Effect.gen(function*() {
      const traffic = new Traffic(() => 0)
      let times = 0
      const listen: Effect.Effect<void> = Effect.flatMap(
        traffic.untilHeard,
        () => ++times < 1000 ? listen : Effect.void
      )
      yield* Effect.forkChild(listen, { startImmediately: true })
      for (const heard of [1, 2, 3]) {
        traffic.heard()
        yield* Effect.yieldNow
        assert.strictEqual(times, heard)
      }
    }))
})
