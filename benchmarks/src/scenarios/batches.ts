/**
 * What batching reaches of what is there to be had: independent callers, against bare loops of transactions of 120
 * operations that are made by hand. `bare loops` sends them through this library's own transport, without batching;
 * `etcd3 raw` through the raw client of the `etcd3` package.
 *
 * Both sides have the same number of operations in flight: 120 per loop, or that many callers.
 */
import { type Kv, Op } from "@effect-kv/core"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Effect from "effect/Effect"
import type { Etcd3, ITxnRequest } from "etcd3"
import * as Measure from "../Measure.ts"
import type { Round, Row } from "../Row.ts"
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
  run: Effect.fnUntraced(function*({ etcd, needed, options }) {
    const { endpoints } = yield* etcd
    const kv = yield* effectKv.open(endpoints)
    const unbatched = yield* effectKv.openUnbatched(endpoints)
    const client = yield* etcd3.open(endpoints)
    const ours: Measure.Subject = { name: "effect-kv", ...effectKv.calls("batch", kv)[name] }
    const rows: Array<Row> = []
    for (const loop of loops) {
      const inFlight = loop * perTxn
      for (let caller = 0; caller < inFlight; caller++) yield* kv.put(Calls.key(caller), Calls.value)
      yield* bare(unbatched, name, loop, options.millis * 2)
      yield* Measure.warmUp(inFlight, [ours], options.millis * 2)
      const contestants = needed(inFlight, [
        { name: "bare loops", round: bare(unbatched, name, loop, options.millis) },
        { name: "etcd3 raw", round: bareRaw(client, name, loop, options.millis) },
        { name: ours.name, round: Measure.closedLoop(ours, inFlight, options.millis) }
      ])
      // The first round of each opens its connection and compiles its code.
      yield* Effect.forEach(contestants, ({ round }) => round, { discard: true })
      rows.push(...yield* Measure.takeTurns(`batch-share-${name}`, inFlight, options.rounds + 1, contestants))
    }
    return rows
  })
})

export const get = scenario("get")
export const put = scenario("put")

const callersOf = (loop: number): ReadonlyArray<number> => Array.from({ length: perTxn }, (_, i) => loop * perTxn + i)

const bare = (kv: Kv.Kv, name: Name, loops: number, millis: number) => {
  const backend = backendOf(kv)
  const op = (caller: number) => name === "get" ? Op.get(Calls.key(caller)) : Op.put(Calls.key(caller), Calls.value)
  const effect = (loop: number) => backend.execute(Op.txn({ then: callersOf(loop).map(op) }))
  return perOperation(Measure.closedLoop({ name: "txn", effect }, loops, millis))
}

const bareRaw = ({ kv }: Etcd3, name: Name, loops: number, millis: number) => {
  const request = (loop: number): ITxnRequest => ({
    compare: [],
    success: callersOf(loop).map((caller) =>
      name === "get" ? { request_range: Messages.get(caller) } : { request_put: Messages.put(caller) }
    ),
    failure: []
  })
  return perOperation(Measure.closedLoop({ name: "txn", promise: (loop) => kv.txn(request(loop)) }, loops, millis))
}

/** A transaction is as many operations as are in it, each as fast as the whole. */
const perOperation = (round: Effect.Effect<Round, unknown>) =>
  Effect.map(round, (round) => ({
    ...round,
    opsPerSecond: round.opsPerSecond * perTxn,
    cpuMicrosPerOp: round.cpuMicrosPerOp / perTxn
  }))
