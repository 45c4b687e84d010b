/**
 * Clients that stop while the database holds the lock of the store for them: the writers behind them must not starve.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Op from "@effect-kv/core/Op"
import { PostgresServer } from "@effect-kv/test-suite/verification"
import { layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { administrator, behindProxy, untilProcess } from "./support/backends.ts"

layer(PostgresServer.layer(), { excludeTestServices: true, timeout: "1 minute" })("writers", (it) => {
  it.effect("go on after a client stopped reading the large response to its write", () =>
    Effect.gen(function*() {
      const sql = yield* administrator
      const writer = yield* behindProxy()
      const { kv, pid, proxy } = yield* behindProxy({ deadline: "1 minute" })
      const value = new Uint8Array(1_000_000)
      yield* Effect.forEach(Array.from({ length: 24 }, (_, i) => i), (i) => writer.kv.put(`large/${i}`, value))
      yield* proxy.blackhole({ direction: "toClient" })
      yield* Effect.forkChild(kv.txn({ then: [Op.put("stopped", "1"), Op.range(KeyRange.prefix("large/"))] }))
      yield* untilProcess(sql, sql`pid = ${pid} and wait_event = 'ClientWrite'`)
      yield* Deadline.within(writer.kv.put("next", "1"), "20 seconds")
      yield* proxy.heal
    }))
})
