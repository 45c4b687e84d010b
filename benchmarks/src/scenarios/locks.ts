/**
 * Locks on etcd: acquired and released without contention, against one put; and handed over among waiters that each
 * have their own client.
 */
import { Compare, DistLock, KeyRange, Kv, Op } from "@effect-kv/core"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Effect from "effect/Effect"
import { type Etcd3, EtcdLockFailedError, type Lock } from "etcd3"
import * as Measure from "../Measure.ts"
import type { Scenario } from "../Scenario.ts"
import * as Calls from "../subjects/Calls.ts"
import * as effectKv from "../subjects/effectKv.ts"
import * as etcd3 from "../subjects/etcd3.ts"
import * as go from "../subjects/go.ts"

export const lock: Scenario = {
  name: "lock",
  run: Effect.fnUntraced(function*({ etcd, needed, options }) {
    const { endpoints } = yield* etcd
    const kv = yield* effectKv.open(endpoints)
    const client = yield* etcd3.open(endpoints)
    const subjects: ReadonlyArray<Measure.Subject> = [
      { name: "effect-kv put", effect: () => kv.put("bench/lock-put", Calls.value) },
      { name: "etcd3", promise: async () => (await client.lock("bench/lock-etcd3").acquire()).release() },
      { name: "two transactions", effect: yield* byHand(yield* effectKv.openUnbatched(endpoints)) },
      { name: "effect-kv", effect: () => takeAndRelease(kv, "bench/lock") },
      ...yield* go.mutexes(endpoints, "bench/lock-go", 1)
    ]
    return yield* Measure.alternate("lock", 1, needed(1, subjects), options)
  })
}

export const handOver: Scenario = {
  name: "lock-handover",
  run: Effect.fnUntraced(function*({ etcd, needed, options }) {
    const { endpoints } = yield* etcd
    const rows = yield* Effect.forEach([2, 8, 64], (waiters) =>
      Effect.scoped(Effect.gen(function*() {
        const clients = yield* Effect.forEach(Array.from({ length: waiters }), () => effectKv.open(endpoints))
        const peers = yield* Effect.forEach(Array.from({ length: waiters }), () => etcd3.open(endpoints))
        const subjects: ReadonlyArray<Measure.Subject> = [
          {
            name: "etcd3",
            promise: async (caller) => (await takeAtLast(peers[caller]!, `bench/handover-etcd3/${waiters}`)).release()
          },
          {
            name: "effect-kv",
            effect: (caller) => takeAndRelease(clients[caller]!, `bench/handover/${waiters}`)
          },
          ...yield* go.mutexes(endpoints, `bench/handover-go/${waiters}`, waiters)
        ]
        return yield* Measure.alternate("lock-handover", waiters, needed(waiters, subjects), options)
      })))
    return rows.flat()
  })
}

const takeAndRelease = (kv: Kv.Kv, name: string) =>
  Effect.provideService(DistLock.withDistLock(Effect.void, name), Kv.Kv, kv)

/** What a lock sends, sent by hand: the transaction that enters the queue, and the one that deletes the key. */
const byHand = Effect.fnUntraced(function*(kv: Kv.Kv) {
  const backend = backendOf(kv)
  const lease = yield* backend.leaseGrant({ ttl: "1 hour" })
  const queue = KeyRange.prefix("bench/lock-by-hand/")
  const key = `bench/lock-by-hand/${lease.id.toString(16)}`
  const enter = Op.txn({
    if: [Compare.missing(key)],
    then: [
      Op.range(queue, { keysOnly: true, limit: 1, order: { by: "createRevision", direction: "descending" } }),
      Op.put(key, "", { lease: lease.id })
    ]
  })
  return () =>
    Effect.flatMap(backend.execute(enter), ({ revision }) =>
      backend.execute(
        Op.txn({ if: [Compare.createRevision(key, "=", revision)], then: [Op.delete(key)] })
      ))
})

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
