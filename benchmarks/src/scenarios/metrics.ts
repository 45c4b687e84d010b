/**
 * The cost of metrics: the same calls with the default and with `metrics: false`, in one process and against one server.
 * The goal is that calls at 256 in flight lose at most 3 % of throughput, and use at most 3 % more CPU time.
 *
 * That is less than what else a machine does. So there are many short rounds, compared in blocks (see `Paired.ts`). A
 * second client without metrics shows what the measurement finds between two clients that do the same.
 */
import { Kv } from "@effect-kv/core"
import { EtcdLayer } from "@effect-kv/etcd"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Measure from "../Measure.ts"
import * as Paired from "../Paired.ts"
import type { Row } from "../Row.ts"
import type { Scenario } from "../Scenario.ts"
import * as Calls from "../subjects/Calls.ts"
import * as effectKv from "../subjects/effectKv.ts"

const blocks = 60
const millis = 150

const scenario = (name: "get" | "put"): Scenario => ({
  name: `metrics-${name}`,
  run: Effect.fnUntraced(function*({ etcd, goals, quick }) {
    const { endpoints } = yield* etcd
    const callOf = (kv: Kv.Kv) => effectKv.calls("metrics", kv)[name]
    const measured = yield* open({ endpoints })
    const subjects = [
      { name: "without metrics", ...callOf(yield* open({ endpoints, metrics: false })) },
      { name: "with metrics", ...callOf(measured) },
      { name: "without metrics, again", ...callOf(yield* open({ endpoints, metrics: false })) }
    ]
    const rows: Array<Row> = []
    for (const inFlight of goals ? [256] : [1, 256]) {
      for (let caller = 0; caller < inFlight; caller++) yield* measured.put(Calls.key(caller), Calls.value)
      const warmUps = quick ? 1 : 10
      for (let i = 0; i < warmUps; i++) yield* Measure.warmUp(inFlight, subjects, millis)
      const round = (subject: Measure.Subject) => Measure.closedLoop(subject, inFlight, millis)
      const found = yield* Measure.takeTurns(
        `metrics-${name}`,
        inFlight,
        2 * (quick ? 2 : blocks),
        subjects.map((subject) => ({ name: subject.name, round: round(subject) }))
      )
      rows.push(...Paired.compared(found))
    }
    return rows
  })
})

export const get = scenario("get")
export const put = scenario("put")

const open = (options: EtcdLayer.Options) =>
  Effect.map(Layer.build(EtcdLayer.layer(options)), (context) => Context.get(context, Kv.Kv))
