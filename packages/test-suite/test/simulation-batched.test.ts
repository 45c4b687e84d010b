/**
 * Simulated clients whose concurrent operations are batched into transactions.
 */
import { batched } from "@effect-kv/core/Batching"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import { assert, it } from "@effect/vitest"
import { replayed, run, seedsOf, simulate } from "./simulating.ts"

/** Every other run allows one request in flight, so that more operations are queued and batched. */
const batching = (seed: number) => batched(seed % 2 === 0 ? { maxInFlight: 1 } : {})

simulate("simulated clients of memory that batch", "simulation-batched.test.ts", 100_000, batching)

it.skipIf(replayed !== undefined)("simulated clients make operations that can be batched", () => {
  let calls = 0
  let requests = 0
  const counting = (count: () => void) => (backend: KvBackend): KvBackend => ({
    ...backend,
    execute: (op) => {
      count()
      return backend.execute(op)
    }
  })
  for (const seed of seedsOf(100_000, 100_200)) {
    run(seed, (backend) => counting(() => calls++)(batching(seed)(counting(() => requests++)(backend))))
  }
  assert.isAbove(calls - requests, 200, `${calls} calls were sent as ${requests} requests`)
}, 60_000)
