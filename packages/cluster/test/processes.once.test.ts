/**
 * Runners in processes of their own, with 300 shards on a real etcd: what happens when they are killed, stopped, ended,
 * frozen and restarted, and when etcd is away. All scenarios run at the same time.
 *
 * The history of the store shows for each that no lock was ever written while it was held, and which entity's writes were
 * accepted without one. The times are those without the stalls of the machine, which a control process measures.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { assertFenced } from "./support/assertFenced.ts"
import * as machineStalls from "./support/machineStalls.ts"
import { freeze, goals, joinAndEnd, outage, type Step, type Steps } from "./support/processScenarios.ts"

const startSteps: ReadonlySet<Step> = new Set<Step>([
  "the first runner owns all shards",
  "a restart at the same address owns its shards"
])

const assertReached = Effect.fnUntraced(function*(stalls: machineStalls.MachineStalls, steps: Steps) {
  for (const [name, interval] of Object.entries(steps) as ReadonlyArray<[Step, machineStalls.Interval]>) {
    const elapsed = interval.to - interval.from
    // A runner that starts computes all the time, most of it to compile its code. Others wait most of the time.
    const stall = startSteps.has(name) ? elapsed * (yield* stalls.share(interval)) : yield* stalls.during(interval)
    assert.isAtMost(
      elapsed - stall,
      goals[name],
      `${name}: ${elapsed} ms, of which the machine was stalled for ${stall.toFixed(0)} ms`
    )
  }
})

describe("runners in processes of their own", { concurrent: true }, () => {
  it.live(
    "join, end, crash, restart: the shards have an owner again in time, and never two",
    () =>
      Effect.gen(function*() {
        const stalls = yield* machineStalls.measure
        const { calls, steps, violations } = yield* joinAndEnd
        assert.isTrue(calls.every((how) => how === "1"))
        assert.deepStrictEqual(violations, [])
        yield* assertReached(stalls, steps)
      }),
    60_000
  )

  it.live(
    "a runner that is frozen for longer than the expiration writes nothing more for the shards it lost",
    () => Effect.map(freeze, assertFenced),
    60_000
  )

  it.live(
    "etcd that is away for longer than the leases: nothing runs, and all is back within a second of its return",
    () =>
      Effect.gen(function*() {
        const stalls = yield* machineStalls.measure
        const { calls, steps, violations } = yield* outage
        assert.isTrue(calls.every((how) => how === "1"))
        assert.deepStrictEqual(violations, [])
        yield* assertReached(stalls, steps)
      }),
    60_000
  )
})
