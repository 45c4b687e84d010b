/**
 * Single calls on etcd: `get`, `put`, compare-and-set, nine gets to a put, and a range of a hundred keys. Each caller
 * has its own key.
 */
import { Op } from "@effect-kv/core"
import type { Kv } from "@effect-kv/core"
import * as Effect from "effect/Effect"
import * as Measure from "../Measure.ts"
import type { Row } from "../Row.ts"
import type { Scenario } from "../Scenario.ts"
import * as Calls from "../subjects/Calls.ts"
import * as effectKv from "../subjects/effectKv.ts"
import * as etcd3 from "../subjects/etcd3.ts"
import * as go from "../subjects/go.ts"
import * as grpcJs from "../subjects/grpcJs.ts"

const inFlights = [1, 16, 64, 256, 1024]
const fewInFlights = [1, 64, 256]

const scenario = (name: Calls.Name): Scenario => ({
  name,
  run: Effect.fnUntraced(function*({ etcd, goals, needed, options, quick }) {
    const server = yield* etcd
    const { endpoints } = server
    const kv = yield* effectKv.open(endpoints)
    const unbatched = yield* effectKv.openUnbatched(endpoints)
    const client = yield* etcd3.open(endpoints)
    const grpc = yield* grpcJs.open(endpoints)
    const subjects: ReadonlyArray<Measure.Subject> = [
      { name: "etcd3", ...etcd3.calls(client)[name] },
      { name: "etcd3 raw", ...etcd3.rawCalls(client)[name] },
      { name: "grpc-js", ...grpcJs.calls(grpc)[name] },
      { name: "effect-kv unbatched", ...effectKv.calls("effect-kv unbatched", unbatched)[name] },
      { name: "effect-kv", ...effectKv.calls("effect-kv", kv)[name] },
      ...yield* go.calls(endpoints, name)
    ]
    yield* prepare(kv)
    const all = quick || goals ? fewInFlights : inFlights
    const isMeasured = (subject: Measure.Subject) => all.some((inFlight) => needed(inFlight, [subject]).length > 0)
    yield* Measure.warmUp(64, subjects.filter(isMeasured), 400)
    const rows: Array<Row> = []
    let compacted = 0n
    for (const inFlight of all) {
      const chosen = needed(inFlight, subjects)
      if (chosen.length === 0) continue
      rows.push(...yield* Measure.alternate(name, inFlight, chosen, options))
      // The writes are history now, which must not slow down the next scenario.
      const revision = yield* server.revision
      if (revision > compacted) yield* server.compact(revision)
      compacted = revision
    }
    return rows
  })
})

export const all: ReadonlyArray<Scenario> = [
  scenario("get"),
  scenario("put"),
  scenario("cas"),
  scenario("mix"),
  scenario("range")
]

const perTxn = 100

const prepare = Effect.fnUntraced(function*(kv: Kv.Kv) {
  const keys = [
    ...Array.from({ length: Math.max(...inFlights) }, (_, caller) => Calls.key(caller)),
    ...Array.from({ length: Calls.rangeSize }, (_, i) => `${Calls.prefix}${i}`)
  ]
  for (let i = 0; i < keys.length; i += perTxn) {
    yield* kv.txn({ then: keys.slice(i, i + perTxn).map((key) => Op.put(key, Calls.value)) })
  }
})
