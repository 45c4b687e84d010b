/**
 * Runners of Effect Cluster in processes of their own, with 300 shards on a real etcd: how long it takes until all shards
 * have an owner again after each kind of event, and what an idle runner costs.
 *
 * The program of the package's tests measures it. An operation is an event; its time is without the stalls of the machine.
 */
import * as Effect from "effect/Effect"
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { type Round, type Row, rowsOf } from "../Row.ts"
import type { Scenario } from "../Scenario.ts"

/** What the program prints for each round. */
interface Found {
  readonly millis: Record<string, { readonly elapsed: number; readonly stall: number }>
  /** In ten seconds. */
  readonly requests: { readonly renewals: number; readonly reads: number }
}

const program = fileURLToPath(new URL("../../../packages/cluster/test/programs/measure.ts", import.meta.url))

const measured = (rounds: number): Effect.Effect<ReadonlyArray<Found>, unknown> =>
  Effect.callback((resume) => {
    const child = execFile(process.execPath, [program, `${rounds}`], (error, stdout, stderr) => {
      resume(
        error === null
          ? Effect.succeed(stdout.trim().split("\n").map((line): Found => JSON.parse(line)))
          : Effect.fail(new Error(`${error.message}\n${stderr}`))
      )
    })
    // Its finalizers end the runners and etcd.
    return Effect.sync(() => child.kill("SIGTERM"))
  })

export const cluster: Scenario = {
  name: "cluster",
  run: Effect.fnUntraced(function*({ goals, quick }) {
    const found = yield* measured(quick || goals ? 1 : 3)
    const steps = Object.keys(found[0]!.millis).map((name): Row => {
      const times = found.map(({ millis }) => millis[name]!)
      return {
        ...rowOf(name, times.map(({ elapsed, stall }) => roundOf(elapsed - stall))),
        stallMillis: Math.max(...times.map(({ stall }) => stall))
      }
    })
    const requests = (["renewals", "reads"] as const).map((kind) =>
      rowOf(`idle runner: ${kind}`, found.map(({ requests }) => roundOf(10_000 / requests[kind])))
    )
    return [...steps, ...requests]
  })
}

const rowOf = (subject: string, rounds: ReadonlyArray<Round>): Row =>
  rowsOf("cluster", 1, new Map([[subject, rounds]]))[0]!

const roundOf = (millis: number): Round => ({
  opsPerSecond: 1000 / millis,
  p50Ms: millis,
  p99Ms: millis,
  cpuMicrosPerOp: 0
})
