/**
 * Locks on etcd: taken and given back with nobody else there, against one put; and handed over among waiters of as many
 * clients.
 */
import { DistLock, Kv } from "@effect-kv/core"
import * as Effect from "effect/Effect"
import * as Measure from "../Measure.ts"
import type { Scenario } from "../Scenario.ts"
import * as Subjects from "../Subjects.ts"

export const lock: Scenario = {
  name: "lock",
  run: Effect.fnUntraced(function*({ etcd, options }) {
    const kv = yield* Subjects.effectKv(etcd.endpoints)
    const client = yield* Subjects.etcd3(etcd.endpoints)
    const subjects: ReadonlyArray<Measure.Subject> = [
      { name: "effect-kv put", op: () => kv.put("bench/lock-put", Subjects.value) },
      {
        name: "effect-kv",
        op: () => Effect.provideService(DistLock.withDistLock(Effect.void, "bench/lock"), Kv.Kv, kv)
      },
      {
        name: "etcd3",
        op: () =>
          Effect.promise(async () => {
            const lock = await client.lock("bench/etcd3-lock").acquire()
            await lock.release()
          })
      }
    ]
    return yield* Measure.alternate("lock", 1, subjects, options)
  })
}

export const handOver: Scenario = {
  name: "lock-handover",
  run: Effect.fnUntraced(function*({ etcd, options }) {
    const rows: Array<Measure.Row> = []
    for (const waiters of [2, 8, 64]) {
      const clients = yield* Effect.forEach(Array.from({ length: waiters }), () => Subjects.effectKv(etcd.endpoints))
      const subject: Measure.Subject = {
        name: "effect-kv",
        op: (caller) =>
          Effect.provideService(
            DistLock.withDistLock(Effect.void, `bench/handover/${waiters}`),
            Kv.Kv,
            clients[caller]!
          )
      }
      rows.push(...yield* Measure.alternate("lock-handover", waiters, [subject], options))
    }
    return rows
  })
}
