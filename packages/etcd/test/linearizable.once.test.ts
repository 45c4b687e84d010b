/**
 * Linearizability: no member responds from its own state alone, except to serializable reads.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as Op from "@effect-kv/core/Op"
import { EtcdCluster } from "@effect-kv/test-suite/verification"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { client, reason } from "./support/client.ts"

layer(EtcdCluster.layer({ members: 3 }), { excludeTestServices: true, timeout: "2 minutes" })(
  "a follower whose peers do not respond",
  (it) => {
    it.effect("a follower without its peers serves only serializable reads, and rejects even transactions that have only conditions", () =>
      Effect.gen(function*() {
        const cluster = yield* EtcdCluster.EtcdCluster
        const leader = yield* cluster.leader
        const follower = cluster.members.find((member) => member !== leader)!
        const others = cluster.members.filter((member) => member !== follower)
        const kv = yield* client({ endpoints: [follower.endpoint], deadline: "300 millis" })
        yield* kv.put("a", "1")
        const holding = { if: [Compare.value("a", "=", "1")] }
        assert.deepInclude(yield* kv.txn(holding), { succeeded: true, responses: [] })
        assert.deepInclude(yield* kv.txn({ if: [Compare.missing("a")] }), { succeeded: false, responses: [] })
        yield* Effect.acquireUseRelease(
          Effect.forEach(others, (member) => member.pause, { discard: true }),
          () =>
            Effect.gen(function*() {
              // The follower still trusts its leader for a second, so this is not rejected for lack of a leader.
              const serializable = yield* kv.range({ _tag: "Key", key: "a" }, { serializable: true })
              assert.strictEqual(serializable.entries[0]?.lossyText, "1")
              for (const txn of [holding, { ...holding, then: [Op.get("a")] }]) {
                assert.include(["DeadlineExceeded", "Unavailable"], (yield* reason(kv.txn(txn)))._tag)
              }
            }),
          () => Effect.forEach(others, (member) => member.resume, { discard: true })
        )
      }))
  }
)
