/**
 * Watches with authentication: tokens that expire while watches are open, and ranges without permission.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import { EtcdCluster, TcpProxy } from "@effect-kv/test-suite/verification"
import { assert, describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { client } from "./support/client.ts"
import { timedWithoutStalls } from "./support/stalls.ts"
import { batchesUpTo, linesOf, untilStatus, watch } from "./support/watching.ts"

const tokenTtl = 4

const withAuth = Layer.effect(
  EtcdCluster.EtcdCluster,
  Effect.tap(
    EtcdCluster.make({ flags: { "auth-token-ttl": tokenTtl } }),
    (cluster) =>
      cluster.enableAuth({
        rootPassword: "root",
        users: [{
          name: "app",
          password: "app",
          permissions: [{ permission: "readwrite", prefix: "app/" }, { permission: "read", prefix: "more/" }]
        }]
      })
  )
)

layer(withAuth, { excludeTestServices: true, timeout: "60 seconds" })((it) => {
  const setUp = Effect.gen(function*() {
    const cluster = yield* EtcdCluster.EtcdCluster
    const proxy = yield* TcpProxy.make({ target: cluster.endpoints[0]! })
    const auth = { username: "app", password: Redacted.make("app") }
    const put = Effect.fnUntraced(function*(key: string, value: string) {
      yield* cluster.etcdctl(["put", key, value])
      return yield* cluster.revision
    })
    const count = Effect.fnUntraced(function*(method: string) {
      const { series } = yield* cluster.metrics()
      return [...series].filter(([name]) =>
        name.startsWith("grpc_server_started_total") && name.includes(`"${method}"`)
      )
        .reduce((sum, [, count]) => sum + count, 0)
    })
    return { cluster, proxy, put, count, kv: yield* client({ endpoints: [proxy.endpoint], auth }) }
  })

  describe("a token that expires", () => {
    it.effect(
      "an expired token costs no event, whether a watch is open, is being opened or reconnects",
      () =>
        Effect.gen(function*() {
          const { kv, proxy, put } = yield* setUp
          const old = yield* watch(kv, KeyRange.prefix("app/"))
          const statuses: Array<string> = []
          yield* Effect.forkScoped(Stream.runForEach(old.status, ({ _tag }) => Effect.sync(() => statuses.push(_tag))))
          yield* Effect.sleep((tokenTtl + 1.5) * 1000)
          const one = yield* put("app/a", "1")
          assert.deepStrictEqual(linesOf(yield* batchesUpTo(old, one)), [`${one} put app/a=1`])
          const late = yield* watch(kv, KeyRange.prefix("app/"))
          assert.deepStrictEqual(statuses, ["Live"], "the open watch is not interrupted")
          const two = yield* put("app/a", "2")
          assert.deepStrictEqual(linesOf(yield* batchesUpTo({ ...old, revision: one }, two)), [`${two} put app/a=2`])
          assert.deepStrictEqual(linesOf(yield* batchesUpTo(late, two)), [`${two} put app/a=2`])

          yield* Effect.sleep((tokenTtl + 1.5) * 1000)
          yield* proxy.down
          yield* untilStatus(old, "Interrupted")
          const three = yield* put("app/a", "3")
          yield* proxy.up
          const [elapsed, batches] = yield* timedWithoutStalls(batchesUpTo({ ...old, revision: two }, three))
          assert.deepStrictEqual(linesOf(batches), [`${three} put app/a=3`])
          assert.isBelow(elapsed, 2000)
          assert.deepStrictEqual(linesOf(yield* batchesUpTo({ ...late, revision: two }, three)), [
            `${three} put app/a=3`
          ])
        }),
      60_000
    )
  })

  describe("a range that is denied", () => {
    it.effect("a watch of a range without permission fails once at open, and no other watch is affected", () =>
      Effect.gen(function*() {
        const { count, kv, put } = yield* setUp
        const allowed = yield* watch(kv, KeyRange.prefix("app/"))
        const statuses: Array<string> = []
        yield* Effect.forkScoped(
          Stream.runForEach(allowed.status, ({ _tag }) => Effect.sync(() => statuses.push(_tag)))
        )
        const [watches, tokens] = [yield* count("Watch"), yield* count("Authenticate")]
        const denied = yield* Effect.forEach(
          ["other/", "application/", ""],
          (prefix) => Effect.forkChild(Effect.scoped(Effect.flip(watch(kv, KeyRange.prefix(prefix)))))
        )
        const after = yield* watch(kv, KeyRange.prefix("app/after"))
        for (const fiber of denied) assert.strictEqual((yield* Fiber.join(fiber)).reason._tag, "PermissionDenied")
        assert.deepStrictEqual([yield* count("Watch"), yield* count("Authenticate")], [watches, tokens])
        const revision = yield* put("app/after", "1")
        assert.strictEqual((yield* batchesUpTo(allowed, revision)).length, 1)
        assert.strictEqual((yield* batchesUpTo(after, revision)).length, 1)
        assert.deepStrictEqual(statuses, ["Live"])
      }))

    it.effect("a range that loses its permission ends its watch at the next reconnect, and the others continue", () =>
      Effect.gen(function*() {
        const { cluster, kv, proxy, put } = yield* setUp
        const allowed = yield* watch(kv, KeyRange.prefix("app/"))
        const revoked = yield* watch(kv, KeyRange.prefix("more/"))
        const roles = yield* cluster.etcdctl(["user", "get", "app"])
        const role = /Roles:\s*(\S+)/.exec(roles)![1]!
        yield* cluster.etcdctl(["role", "revoke-permission", role, "--prefix", "more/"])
        const one = yield* put("app/b", "1")
        assert.strictEqual((yield* batchesUpTo(allowed, one)).length, 1)
        yield* proxy.cut
        assert.strictEqual((yield* Effect.flip(revoked.take)).reason._tag, "PermissionDenied")
        const two = yield* put("app/b", "2")
        assert.strictEqual((yield* batchesUpTo({ ...allowed, revision: one }, two)).length, 1)
      }))
  })
})
