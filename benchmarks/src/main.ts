/**
 * The `npm run bench` command: measures this library and comparable ones, on one etcd server that it starts, and in
 * memory.
 *
 * All subjects run in this process and take turns against the same server. docs/performance.md explains what is
 * measured and how to read it. `Arguments.ts` has the options.
 */
import { EtcdCluster, PostgresServer } from "@effect-kv/test-suite/verification"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import { mkdirSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Arguments from "./Arguments.ts"
import * as Chart from "./Chart.ts"
import * as Goals from "./Goals.ts"
import * as Report from "./Report.ts"
import type { Row } from "./Row.ts"
import { scenarios } from "./scenarios/all.ts"
import * as Stores from "./subjects/stores.ts"
import * as Table from "./Table.ts"

/** Without waiting for the disk, because clients are measured, and with room for their data. */
const flags = { "unsafe-no-fsync": true, "quota-backend-bytes": 8 * 1024 ** 3 }

/** Postgres's own defaults, instead of the settings that suit tests. */
const durable = { fsync: "on", full_page_writes: "on", shared_buffers: "128MB", max_wal_size: "1GB" }

const results = fileURLToPath(new URL("../build/", import.meta.url))

const main = Effect.gen(function*() {
  const args = yield* Arguments.parse(process.argv.slice(2), scenarios)
  const options = args.quick ? { rounds: 3, millis: 100 } : { rounds: 5, millis: args.goals ? 400 : 700 }
  const etcd = yield* Effect.cached(EtcdCluster.make({ flags }))
  const postgres = {
    durable: yield* Effect.cached(PostgresServer.make({ settings: durable })),
    volatile: yield* Effect.cached(PostgresServer.make({ settings: { ...durable, fsync: "off" } }))
  }
  const stores = yield* Effect.cached(Stores.open)
  const scope = yield* Effect.scope
  const rows: Array<Row> = []
  for (const scenario of args.scenarios) {
    const began = performance.now()
    const found = yield* Effect.scoped(scenario.run({
      etcd: Effect.provideService(etcd, Scope.Scope, scope),
      postgres: (kind) => Effect.provideService(postgres[kind], Scope.Scope, scope),
      stores: Effect.provideService(stores, Scope.Scope, scope),
      options,
      quick: args.quick,
      goals: args.goals,
      needed: (inFlight, subjects) =>
        args.goals
          ? subjects.filter(({ name }) => Goals.need(scenario.name, { subject: name, inFlight }))
          : subjects
    }))
    rows.push(...found)
    const seconds = ((performance.now() - began) / 1000).toFixed(1)
    yield* Console.log(`${scenario.name} (took ${seconds} s)\n${Table.plain(Table.ofRows(found))}\n`)
  }
  const goalResults = Goals.evaluate(rows)
  if (goalResults.length > 0) yield* Console.log(`${Table.plain(Table.ofGoals(goalResults))}\n`)
  // Only now: the results of a run that misses a goal are written too.
  if (goalResults.some(({ isRequired, reached }) => isRequired && !reached)) process.exitCode = 1
  yield* write(args.json ?? join(results, "results.json"), `${JSON.stringify(rows, null, 2)}\n`)
  const chart = Chart.draw(rows)
  if (chart !== undefined) yield* write(args.svg ?? join(results, "chart.svg"), chart)
  if (args.markdown !== undefined) {
    const report = { rows: args.goals ? [] : rows, goalResults, options, etcd: (yield* etcd).version }
    if (args.markdown === "-") yield* Console.log(Report.print(report))
    else yield* write(args.markdown, yield* Report.update(args.markdown, report))
  }
})

const write = (file: string, text: string) =>
  Effect.sync(() => {
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, text)
  }).pipe(Effect.andThen(Console.log(`wrote ${file}`)))

NodeRuntime.runMain(Effect.scoped(main))
