/**
 * `npm run bench`: measures this library beside its peers, on one etcd server that it starts itself, and in memory.
 *
 * `--quick` for short rounds, `--only NAME` for one scenario, `--json FILE` for the rows as data.
 */
import * as EtcdCluster from "@effect-kv/test-suite/EtcdCluster"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { writeFileSync } from "node:fs"
import { parseArgs } from "node:util"
import type { Row } from "./Measure.ts"
import type { Scenario } from "./Scenario.ts"
import * as calls from "./scenarios/calls.ts"
import * as locks from "./scenarios/locks.ts"
import * as memory from "./scenarios/memory.ts"
import * as watches from "./scenarios/watches.ts"
import * as Table from "./Table.ts"

const scenarios: ReadonlyArray<Scenario> = [
  calls.get,
  calls.put,
  locks.lock,
  locks.handOver,
  watches.replay,
  watches.latency,
  memory.store,
  memory.watchedPuts
]

const { values: args } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    only: { type: "string" },
    json: { type: "string" }
  }
})

const main = Effect.gen(function*() {
  const chosen = scenarios.filter((scenario) => args.only === undefined || scenario.name === args.only)
  if (chosen.length === 0) {
    const names = scenarios.map((scenario) => scenario.name).join(", ")
    return yield* Effect.fail(new Error(`there is no scenario "${args.only}"; there are ${names}`))
  }
  const options = args.quick ? { rounds: 3, millis: 400 } : { rounds: 5, millis: 2000 }
  const etcd = yield* EtcdCluster.make({ version: "3.5" })
  const rows: Array<Row> = []
  for (const scenario of chosen) {
    const found = yield* Effect.scoped(scenario.run({ etcd, options, quick: args.quick }))
    rows.push(...found)
    yield* Console.log(`${Table.format(found)}\n`)
  }
  if (args.json !== undefined) writeFileSync(args.json, `${JSON.stringify(rows, null, 2)}\n`)
})

NodeRuntime.runMain(Effect.scoped(main))
