/**
 * What a runner costs the store while nothing happens.
 */
import { TestCluster } from "@effect-kv/cluster/testing"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as Op from "@effect-kv/core/Op"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { TestClock } from "effect/testing"

interface Requests {
  renewals: number
  reads: number
  writes: number
  others: number
}

const counting = (requests: Requests) => (backend: KvBackend): KvBackend => {
  const count = (kind: keyof Requests) => Effect.sync(() => requests[kind]++)
  return {
    execute: (op) => Effect.andThen(count(Op.isWrite(op) ? "writes" : "reads"), backend.execute(op)),
    watch: (request) => Effect.andThen(count("others"), backend.watch(request)),
    leaseGrant: (options) => Effect.andThen(count("others"), backend.leaseGrant(options)),
    leaseKeepAlive: (id) => Effect.andThen(count("renewals"), backend.leaseKeepAlive(id)),
    leaseRevoke: (id) => Effect.andThen(count("others"), backend.leaseRevoke(id)),
    leaseTimeToLive: (id, options) => Effect.andThen(count("others"), backend.leaseTimeToLive(id, options))
  }
}

describe("the cost of an idle runner", () => {
  it.effect("at Effect's default intervals a runner makes at most 4 renewals and 4 reads in 10 seconds", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const cluster = yield* TestCluster.make()
      const requests: Record<string, Requests> = {}
      for (const host of ["a", "b"]) {
        requests[host] = { renewals: 0, reads: 0, writes: 0, others: 0 }
        yield* cluster.start(host, {
          kv: yield* Effect.flatMap(Effect.map(store.connect, counting(requests[host])), Kv.make)
        })
      }
      yield* TestClock.adjust("2 minutes")
      for (const of of Object.values(requests)) Object.assign(of, { renewals: 0, reads: 0, writes: 0, others: 0 })
      yield* TestClock.adjust("1 minute")
      for (const { others, reads, renewals, writes } of Object.values(requests)) {
        assert.isAtMost(renewals / 6, 4)
        assert.isAtLeast(renewals / 6, 2, "both leases are renewed")
        assert.isAtMost(reads / 6, 4)
        assert.deepStrictEqual({ writes, others }, { writes: 0, others: 0 })
      }
    }))
})
