/**
 * What must hold after a runner was frozen for longer than the expiration, on every store.
 */
import { assert } from "@effect/vitest"
import type * as Effect from "effect/Effect"
import type { freezeOn } from "./processScenarios.ts"

/** Asserts that no entity wrote without the lock of its shard, except without the fence. */
export const assertFenced = (
  { calls, late, received, violations, withoutFence }: Effect.Success<ReturnType<typeof freezeOn>>
): void => {
  assert.isTrue(calls.every((how) => how === "1"))
  assert.deepStrictEqual(violations, [])
  // The runner that took over handles them, or the thawed one, whose writes are rejected.
  assert.isTrue(received.every((how) => how === "1" || how.includes("LockLost")), `${received.join("\n")}`)
  assert.isTrue(late.every((line) => line.type === "unfenced" || line.how !== "written"))
  assert.isAbove(withoutFence.length, 0, "without the fence the store accepts such writes")
  assert.isTrue(withoutFence.every(({ kind }) => kind === "WriteWithoutLock"))
}
