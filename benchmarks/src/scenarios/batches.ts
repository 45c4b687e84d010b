/**
 * The efficiency of batching: independent callers, against bare loops of hand-made transactions of 120 operations that
 * are sent through the raw client of the `etcd3` package.
 *
 * Both sides have the same number of operations in flight: 120 per loop, or that many callers.
 */
import * as Effect from "effect/Effect"
import type { Etcd3, ITxnRequest } from "etcd3"
import * as Measure from "../Measure.ts"
import type { Row } from "../Row.ts"
import type { Scenario } from "../Scenario.ts"
import * as Calls from "../subjects/Calls.ts"
import * as effectKv from "../subjects/effectKv.ts"
import * as etcd3 from "../subjects/etcd3.ts"
import * as Messages from "../subjects/Messages.ts"

const perTxn = 120
const loops = [2, 8]

type Name = "get" | "put"

const scenario = (name: Name): Scenario => ({
  name: `batch-share-${name}`,
  run: Effect.fnUntraced(function*({ etcd, options }) {
    const { endpoints } = yield* etcd
    const kv = yield* effectKv.open(endpoints)
    const client = yield* etcd3.open(endpoints)
    const ours: Measure.Subject = { name: "effect-kv", ...effectKv.calls("batch", kv)[name] }
    const rows: Array<Row> = []
    for (const loop of loops) {
      const inFlight = loop * perTxn
      for (let caller = 0; caller < inFlight; caller++) yield* kv.put(Calls.key(caller), Calls.value)
      yield* bare(client, name, loop, options.millis * 2)
      yield* Measure.warmUp(inFlight, [ours], options.millis * 2)
      rows.push(
        ...yield* Measure.takeTurns(`batch-share-${name}`, inFlight, options.rounds + 1, [
          { name: "etcd3 raw", round: bare(client, name, loop, options.millis) },
          { name: ours.name, round: Measure.closedLoop(ours, inFlight, options.millis) }
        ])
      )
    }
    return rows
  })
})

export const get = scenario("get")
export const put = scenario("put")

/** A transaction counts as its number of operations, each as fast as the whole. */
const bare = ({ kv }: Etcd3, name: Name, loops: number, millis: number) => {
  const request = (loop: number): ITxnRequest => ({
    compare: [],
    success: Array.from({ length: perTxn }, (_, i) => {
      const caller = loop * perTxn + i
      return name === "get" ? { request_range: Messages.get(caller) } : { request_put: Messages.put(caller) }
    }),
    failure: []
  })
  const op = { name: "txn", promise: (loop: number) => kv.txn(request(loop)) }
  return Effect.map(Measure.closedLoop(op, loops, millis), (round) => ({
    ...round,
    opsPerSecond: round.opsPerSecond * perTxn,
    cpuMicrosPerOp: round.cpuMicrosPerOp / perTxn
  }))
}
