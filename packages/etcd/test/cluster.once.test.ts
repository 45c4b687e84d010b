/**
 * The endpoints of a client while they change, without a server.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Cluster from "../src/internal/rpc/cluster.ts"
import * as settings from "../src/internal/settings.ts"
import * as logs from "./support/logs.ts"
import { eventually } from "./support/watching.ts"

describe("endpoints that change", () => {
  it.live("removed endpoints leave nothing behind in the client's scope", () =>
    logs.make().collect(Effect.gen(function*() {
      const scope = yield* Effect.scope
      const finalizers = (): number => {
        const { state } = scope
        return state._tag === "Open" ? (state.finalizer === undefined ? 0 : 1) + (state.finalizers?.size ?? 0) : 0
      }
      const [a, b] = ["http://127.0.0.1:1", "http://127.0.0.1:2"]
      const cluster = yield* Cluster.make(yield* settings.make({ endpoints: [a!] }), () => {})
      const before = finalizers()
      for (let i = 0; i < 20; i++) yield* cluster.replace([i % 2 === 0 ? b! : a!])
      yield* eventually(Effect.sync(() => finalizers() === before))
    })))

  it.live("listeners learn of removed endpoints only, and no more once they are removed", () =>
    logs.make().collect(Effect.gen(function*() {
      const [a, b] = ["http://127.0.0.1:1", "http://127.0.0.1:2"]
      const cluster = yield* Cluster.make(yield* settings.make({ endpoints: [a!] }), () => {})
      const calls: Array<ReadonlyArray<string>> = []
      const stop = cluster.onRemoved(() => calls.push(cluster.addresses()))
      yield* cluster.replace([a!, b!])
      assert.deepStrictEqual(calls, [])
      yield* cluster.replace([b!])
      assert.deepStrictEqual(calls, [[b]])
      stop()
      yield* cluster.replace([a!])
      assert.strictEqual(calls.length, 1)
    })))
})
