/**
 * A quiet watch that is cut off after a compaction. It has missed nothing, so it continues.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import { EtcdBinaries, EtcdCluster, TcpProxy } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as connection from "../src/internal/rpc/connection.ts"
import * as settings from "../src/internal/settings.ts"
import * as watches from "../src/internal/watch/watch.ts"
import * as watchProgress from "../src/internal/watch/watchProgress.ts"
import { client } from "./support/client.ts"
import { eventually } from "./support/watching.ts"

const status = (version: string, memberId: bigint) => ({
  version,
  header: { clusterId: 1n, memberId, revision: 1n },
  errors: []
})

describe("requesting the progress of watches", () => {
  it("the client requests progress only from servers whose response follows all events, and only if they serve the stream", () => {
    const trusted = ["3.4.25", "3.4.40", "3.5.8", "3.5.30", "3.6.0", "3.7.1", "4.0.0"]
    const others = ["3.3.27", "3.4.24", "3.5.7", "3.6.0-rc.1", ""]
    for (const version of [...trusted, ...others]) {
      const isTrusted = watchProgress.isTrusted(status(version, 7n), 7n)
      assert.strictEqual(isTrusted, trusted.includes(version), version)
    }
    assert.isFalse(watchProgress.isTrusted(status("3.5.30", 7n), 8n))
    assert.isFalse(watchProgress.isTrusted(status("3.5.30", 0n), 0n))
  })

  it.live("a quiet watch survives a compaction and a cut if the server's progress responses can be trusted", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.make()
      const proxy = yield* TcpProxy.make({ target: cluster.endpoints[0]! })
      const direct = yield* client({ endpoints: cluster.endpoints })
      const to = yield* connection.make(yield* settings.make({ endpoints: [proxy.endpoint] }))
      const { open } = yield* watches.make(to, { progressInterval: "50 millis" })
      const quiet = yield* open({ range: KeyRange.key("quiet") })
      // Without progress responses, the watch stays far behind.
      for (let i = 0; i < 20; i++) yield* direct.put("busy", `${i}`)
      // The 3.4 server under test sends progress responses out of order.
      const requestsProgress = (yield* EtcdBinaries.currentVersion) !== "3.4"
      const { revision } = yield* direct.put("busy", "last")
      if (requestsProgress) {
        yield* eventually(Effect.map(
          Stream.runHead(quiet.status),
          (status) => status._tag === "Some" && status.value._tag === "Live" && status.value.revision >= revision
        ))
      } else {
        yield* Effect.sleep("500 millis")
      }
      yield* cluster.compact(revision)
      yield* proxy.cut
      const written = yield* direct.put("quiet", "at last")
      const taken = yield* Effect.result(quiet.take)
      if (requestsProgress) {
        assert.strictEqual(
          taken._tag === "Success" ? taken.success[0].revision : taken.failure.message,
          written.revision
        )
      } else {
        // The client requests no progress from this version. The server reports a compaction, and the watch cannot know
        // better.
        assert.strictEqual(taken._tag === "Failure" ? taken.failure.reason._tag : "delivered", "Compacted")
      }
    }))
})
