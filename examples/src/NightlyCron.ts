/**
 * A job on a schedule that every instance starts and one runs, once for each tick. A migration runs before it, once at all.
 *
 *     node examples/src/NightlyCron.ts
 *     KV_URL=http://127.0.0.1:2379 node examples/src/NightlyCron.ts
 */
import { KeyRange, Kv, RunOnce } from "@effect-kv/core"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Cron from "effect/Cron"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as StoreByUrl from "./StoreByUrl.ts"

/** Creates the totals. Only the first instance of all does it; the others wait until it is done. */
export const migrate = RunOnce.forKey("migrations/1", () => Kv.put("totals/format", "2"))

/** Writes a report for each tick. The tick's time names the report, whenever it is made and by whichever clock. */
export const reports = (instance: string, schedule: Cron.Cron) =>
  RunOnce.cron(
    "report",
    schedule,
    ({ attempt, scheduled }) =>
      Kv.put(`reports/${DateTime.formatIso(scheduled)}`, `by ${instance}, attempt ${attempt}`),
    {
      description: instance, // for operators: RunOnce.status("report")
      missed: "latest", // after an outage, the latest report is made late and the others are not
      onCrash: "retry", // a report whose maker crashed is made by another instance
      maxHold: "1 hour" // then it is interrupted, and recorded as failed
    }
  )

/** Three instances make a report each second, which is one report each second. */
export const program = Effect.gen(function*() {
  const kv = yield* Kv.Kv
  yield* kv.deleteRange(KeyRange.all)
  const migrations = yield* Effect.all([migrate, migrate, migrate], { concurrency: "unbounded" })
  yield* Console.log(`${migrations.filter(Option.isSome).length} migration was run`)
  const made = yield* kv.subscribe(KeyRange.prefix("reports/"))
  for (const instance of ["ada", "bert", "cleo"]) {
    yield* Effect.forkScoped(reports(instance, Cron.parseUnsafe("* * * * * *", "UTC")))
  }
  const keys = yield* made.events.pipe(
    Stream.map(({ key }) => key),
    Stream.take(3),
    Stream.runCollect
  )
  for (const key of keys) yield* Console.log(key)
  return keys
}).pipe(Effect.scoped)

if (process.argv[1] === import.meta.filename) {
  NodeRuntime.runMain(
    program.pipe(Effect.provide(Kv.layerPrefixed("examples/nightly-cron/")), Effect.provide(StoreByUrl.layer))
  )
}
