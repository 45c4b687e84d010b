/**
 * The cost of metrics: the same calls with and without them, in one run. The goal is a ratio of at least 0.97 at 256 in
 * flight, and the same CPU time of a single call within the noise.
 *
 * Many short rounds, because what else the machine does costs more than the metrics.
 */
import { Kv } from "@effect-kv/core"
import { EtcdLayer } from "@effect-kv/etcd"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Measure from "../Measure.ts"
import type { Row } from "../Row.ts"
import type { Scenario } from "../Scenario.ts"
import * as Calls from "../subjects/Calls.ts"
import * as effectKv from "../subjects/effectKv.ts"

const scenario = (name: "get" | "put"): Scenario => ({
  name: `metrics-${name}`,
  run: Effect.fnUntraced(function*({ etcd, options }) {
    const { endpoints } = yield* etcd
    const without = effectKv.calls("metrics", yield* open({ endpoints, metrics: false }))[name]
    const measured = yield* open({ endpoints })
    const rows: Array<Row> = []
    for (const inFlight of [1, 256]) {
      for (let caller = 0; caller < inFlight; caller++) yield* measured.put(Calls.key(caller), Calls.value)
      rows.push(
        ...yield* Measure.alternate(`metrics-${name}`, inFlight, [
          { name: "without metrics", ...without },
          { name: "with metrics", ...effectKv.calls("metrics", measured)[name] }
        ], { rounds: 6 * options.rounds, millis: options.millis / 6 })
      )
    }
    return rows
  })
})

export const get = scenario("get")
export const put = scenario("put")

const open = (options: EtcdLayer.Options) =>
  Effect.map(Layer.build(EtcdLayer.layer(options)), (context) => Context.get(context, Kv.Kv))
