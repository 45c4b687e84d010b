/**
 * Measures the scenarios of runners in processes of their own, one after the other, as often as its argument says. It
 * prints a line of JSON for each round. It fails if the store's history shows a violation. `npm run bench` runs it.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as idleCost from "../support/idleProcess.ts"
import * as machineStalls from "../support/machineStalls.ts"
import { freeze, joinAndEnd, outage, type Steps } from "../support/processScenarios.ts"

const rounds = Number(process.argv[2] ?? 1)

const holds = (what: string, condition: boolean) =>
  condition ? Effect.void : Effect.die(new Error(`this does not hold: ${what}`))

const round = Effect.gen(function*() {
  const stalls = yield* machineStalls.measure
  const millis: Record<string, { readonly elapsed: number; readonly stall: number }> = {}
  const add = Effect.fnUntraced(function*(steps: Steps) {
    for (const [name, interval] of Object.entries(steps)) {
      millis[name] = { elapsed: interval.to - interval.from, stall: yield* stalls.during(interval) }
    }
  })
  const joined = yield* Effect.scoped(joinAndEnd)
  yield* add(joined.steps)
  yield* holds("no shard had two owners", joined.violations.length === 0)
  const frozen = yield* Effect.scoped(freeze)
  yield* holds("no write of a thawed runner was accepted", frozen.violations.length === 0)
  yield* holds("without the fence some were accepted", frozen.withoutFence.length > 0)
  const away = yield* Effect.scoped(outage)
  yield* add(away.steps)
  yield* holds("no shard had two owners when etcd returned", away.violations.length === 0)
  return { millis, requests: yield* Effect.scoped(idleCost.measure) }
}).pipe(Effect.scoped)

NodeRuntime.runMain(
  Effect.repeat(Effect.flatMap(round, (found) => Console.log(JSON.stringify(found))), { times: rounds - 1 })
)
