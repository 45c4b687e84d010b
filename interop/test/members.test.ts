/**
 * Our members with the schema `GoEndpoint`, and Go's `naming/endpoints`: each side lists and watches what the other adds.
 */
import * as Members from "@effect-kv/core/Members"
import { assert, describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { go, on, ours, server, until } from "./support/clients.ts"

const schema = Members.GoEndpoint

layer(server, { excludeTestServices: true, timeout: "2 minutes" })((it) => {
  describe("members with Go's endpoints", () => {
    it.effect("Go lists and watches our members, with their updates and their leaving", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const endpoints = (yield* go()).endpoints("ours")
        const first = { address: "10.0.0.1:80", metadata: null }
        yield* on(kv)(Members.join("ours", { id: "a", value: first, schema }))
        assert.deepStrictEqual(yield* endpoints.list, [{ key: "ours/a", ...first }])
        const updates = yield* endpoints.watch
        assert.deepStrictEqual(yield* Queue.take(updates), { add: true, endpoint: { key: "ours/a", ...first } })
        const scope = yield* Scope.fork(yield* Effect.scope)
        const second = { address: "10.0.0.2:80", metadata: { zone: "eu", weight: 1.5, tags: ["x"] } }
        const joining = Members.join("ours", { id: "b:80", value: second, schema })
        const member = yield* Scope.provide(on(kv)(joining), scope)
        assert.deepStrictEqual(yield* Queue.take(updates), { add: true, endpoint: { key: "ours/b:80", ...second } })
        yield* member.update({ ...second, metadata: "draining" })
        assert.deepStrictEqual(yield* Queue.take(updates), {
          add: true,
          endpoint: { key: "ours/b:80", ...second, metadata: "draining" }
        })
        yield* Scope.close(scope, Exit.void)
        const gone = yield* Queue.take(updates)
        assert.deepStrictEqual([gone.add, gone.endpoint.key], [false, "ours/b:80"])
      }))

    it.effect("we see the endpoints that Go adds, changes and deletes", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const client = yield* go()
        const endpoints = client.endpoints("theirs")
        const view = yield* on(kv)(Members.view("theirs", schema))
        const shows = (expected: Record<string, Members.GoEndpoint>) =>
          until(
            `the members are ${Object.keys(expected).join()}`,
            Effect.map(view.snapshot, ({ members }) => {
              const shown = [...members].map(([id, value]) => [id, Result.getOrThrow(value)])
              return JSON.stringify(Object.fromEntries(shown)) === JSON.stringify(expected)
            })
          )
        const { lease } = yield* client.grant(60)
        yield* endpoints.add("a", "10.0.0.1:80", null, lease)
        yield* endpoints.add("b:80", "10.0.0.2:80", { zone: "eu", weight: 2 })
        const second = { address: "10.0.0.2:80", metadata: { weight: 2, zone: "eu" } }
        yield* shows({ a: { address: "10.0.0.1:80", metadata: null }, "b:80": second })
        yield* endpoints.add("b:80", "10.0.0.3:80", null)
        yield* shows({
          a: { address: "10.0.0.1:80", metadata: null },
          "b:80": { address: "10.0.0.3:80", metadata: null }
        })
        yield* endpoints.delete("b:80")
        yield* client.revoke(lease)
        yield* shows({})
      }))

    it.effect("a member whose value Go cannot read does not hide the others from it", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const endpoints = (yield* go()).endpoints("mixed")
        const value = { address: "10.0.0.1:80", metadata: null }
        yield* on(kv)(Members.join("mixed", { id: "a", value, schema }))
        yield* on(kv)(Members.join("mixed", { id: "b", value: "not an endpoint", schema: Schema.String }))
        const updates = yield* endpoints.watch
        assert.deepStrictEqual(yield* Queue.take(updates), { add: true, endpoint: { key: "mixed/a", ...value } })
      }))
  })
})
