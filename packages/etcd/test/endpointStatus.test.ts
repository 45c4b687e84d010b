/**
 * The status of endpoints on real servers: of one that is well, of one that is down, and with authentication.
 */
import * as EtcdStatus from "@effect-kv/etcd/EtcdStatus"
import { EtcdCluster } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"

describe("the status of endpoints", () => {
  it.live("each endpoint has a status of its own: one is the leader, one is down, and one requires credentials", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.make()
      const [endpoint] = cluster.endpoints
      const [up, down] = yield* EtcdStatus.endpoints({
        endpoints: [endpoint!, "http://127.0.0.1:1"],
        deadline: "2 seconds"
      })
      const status = Result.getOrThrow(up!.status)
      assert.isTrue(status.version.startsWith(cluster.version))
      assert.strictEqual(status.memberId.toString(16), yield* cluster.member.id)
      assert.deepStrictEqual(status.leader, Option.some(status.memberId))
      assert.strictEqual(status.revision, yield* cluster.revision)
      assert.deepStrictEqual([status.isLearner, status.alarms], [false, []])
      assert.isAtLeast(status.dbSize, status.dbSizeInUse)
      assert.isAbove(status.dbSizeInUse, 0)
      const failure = Option.getOrThrow(Result.getFailure(down!.status))
      assert.strictEqual(failure.reason._tag, "Unavailable")
      assert.match(failure.message, /ECONNREFUSED/)

      yield* cluster.enableAuth({ rootPassword: "root" })
      const as = (password: string) =>
        Effect.map(
          EtcdStatus.endpoints({
            endpoints: [endpoint!],
            auth: { username: "root", password: Redacted.make(password) },
            deadline: "5 seconds"
          }),
          ([only]) => only!.status
        )
      assert.strictEqual(Result.getOrThrow(yield* as("root")).memberId, status.memberId)
      const withWrongPassword = yield* as("h4nter2")
      if (cluster.version === "3.4") {
        // It demands no credentials for its status, so the client sends none.
        assert.strictEqual(Result.getOrThrow(withWrongPassword).memberId, status.memberId)
      } else {
        const rejected = Option.getOrThrow(Result.getFailure(withWrongPassword))
        assert.strictEqual(rejected.reason._tag, "Unauthenticated")
        assert.notInclude(rejected.message, "h4nter2")
      }
      const invalid = yield* Effect.flip(EtcdStatus.fromUrl("http://user@host"))
      assert.strictEqual(invalid.reason._tag, "InvalidRequest")
    }))
})
