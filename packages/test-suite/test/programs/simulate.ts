/**
 * The `npm run simulate` command: any number of simulated runs on memory, each checked by the checkers. Runs of odd seeds
 * batch.
 *
 *     npm run simulate -- --runs 10000 --seed 0
 *
 * It prints the violations of each failing run, and at last `violations: N`, the number of failing runs; the exit status is
 * 1 unless N is 0. With `--trace`, it makes one run and prints every step.
 */
import { batched } from "@effect-kv/core/Batching"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { Simulation, Violation } from "@effect-kv/test-suite/verification"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { parseArgs } from "node:util"

/** Everything has been printed. */
class Failed extends Data.TaggedError("Failed") {}

const usage = "npm run simulate -- [--runs N] [--seed FIRST] [--trace]"

const optionsOf = (args: Array<string>) => {
  const { values } = parseArgs({
    args,
    options: {
      runs: { type: "string", default: "10000" },
      seed: { type: "string", default: "0" },
      trace: { type: "boolean", default: false }
    }
  })
  return { runs: values.trace ? 1 : Number(values.runs), seed: Number(values.seed), trace: values.trace }
}

/** Every other run that batches allows one request in flight, so that more operations are queued. */
const between = (seed: number): Simulation.Options["between"] =>
  seed % 2 === 0 ? undefined : batched(seed % 4 === 1 ? { maxInFlight: 1 } : {})

const main = Effect.gen(function*() {
  const { runs, seed: first, trace } = yield* Effect.try({
    try: () => optionsOf(process.argv.slice(2)),
    catch: (error) => new Error(`${String(error)}\n${usage}`)
  })
  if (!Number.isSafeInteger(runs) || runs < 1 || !Number.isSafeInteger(first) || first < 0) {
    return yield* Effect.fail(new Error(`--runs and --seed must be whole numbers\n${usage}`))
  }
  const began = yield* Clock.currentTimeMillis
  let calls = 0
  let faults = 0
  let failed = 0
  for (let seed = first; seed < first + runs; seed++) {
    const run = Simulation.run({ seed, store: MemoryStore.make(), between: between(seed) })
    calls += run.history.calls.length
    faults += run.faults
    if (trace) yield* Console.log(run.trace())
    if (run.violations.length > 0) {
      failed++
      yield* Console.log(`seed ${seed}, ${run.faultProfile}:\n${Violation.print(run.history, run.violations)}`)
    }
    const done = seed - first + 1
    if (done % 1000 === 0 || done === runs) {
      const seconds = ((yield* Clock.currentTimeMillis) - began) / 1000
      yield* Console.log(`${done} runs, ${calls} calls, ${faults} faults, ${seconds.toFixed(0)} s`)
      // The process notices Ctrl-C between two runs only.
      yield* Effect.sleep(1)
    }
  }
  yield* Console.log(`violations: ${failed}`)
  if (failed > 0) yield* new Failed()
})

NodeRuntime.runMain(
  Effect.tapError(main, (error) => error instanceof Failed ? Effect.void : Console.error(error.message)),
  { disableErrorReporting: true }
)
