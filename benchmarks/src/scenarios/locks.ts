/**
 * Locks on etcd: acquired and released without contention, against one put; and handed over among waiters that each
 * have their own client.
 */
import { DistLock, Kv } from "@effect-kv/core"
import * as Effect from "effect/Effect"
import { type Etcd3, EtcdLockFailedError, type Lock } from "etcd3"
import * as Measure from "../Measure.ts"
import type { Scenario } from "../Scenario.ts"
import * as Calls from "../subjects/Calls.ts"
import * as effectKv from "../subjects/effectKv.ts"
import * as etcd3 from "../subjects/etcd3.ts"

export const lock: Scenario = {
  name: "lock",
  run: Effect.fnUntraced(function*({ etcd, options }) {
    const { endpoints } = yield* etcd
    const kv = yield* effectKv.open(endpoints)
    const client = yield* etcd3.open(endpoints)
    return yield* Measure.alternate("lock", 1, [
      { name: "effect-kv put", effect: () => kv.put("bench/lock-put", Calls.value) },
      { name: "etcd3", promise: async () => (await client.lock("bench/lock-etcd3").acquire()).release() },
      { name: "effect-kv", effect: () => takeAndRelease(kv, "bench/lock") }
    ], options)
  })
}

export const handOver: Scenario = {
  name: "lock-handover",
  run: Effect.fnUntraced(function*({ etcd, options }) {
    const { endpoints } = yield* etcd
    const rows = yield* Effect.forEach([2, 8, 64], (waiters) =>
      Effect.scoped(Effect.gen(function*() {
        const clients = yield* Effect.forEach(Array.from({ length: waiters }), () => effectKv.open(endpoints))
        const peers = yield* Effect.forEach(Array.from({ length: waiters }), () => etcd3.open(endpoints))
        return yield* Measure.alternate("lock-handover", waiters, [
          {
            name: "etcd3",
            promise: async (caller) => (await takeAtLast(peers[caller]!, `bench/handover-etcd3/${waiters}`)).release()
          },
          {
            name: "effect-kv",
            effect: (caller) => takeAndRelease(clients[caller]!, `bench/handover/${waiters}`)
          }
        ], options)
      })))
    return rows.flat()
  })
}

const takeAndRelease = (kv: Kv.Kv, name: string) =>
  Effect.provideService(DistLock.withDistLock(Effect.void, name), Kv.Kv, kv)

/** The package's lock does not wait: it is rejected while the lock is held. So it is tried again at once. */
const takeAtLast = async (client: Etcd3, name: string): Promise<Lock> => {
  while (true) {
    try {
      return await client.lock(name).acquire()
    } catch (error) {
      if (!(error instanceof EtcdLockFailedError)) throw error
    }
  }
}
