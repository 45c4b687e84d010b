/**
 * A job that every instance starts and one runs: the first to hold the lock runs it, the others find it done.
 *
 *     node examples/src/NightlyReport.ts
 *     KV_URL=http://127.0.0.1:2379 node examples/src/NightlyReport.ts
 */
import { DistLock, KeyRange, Kv } from "@effect-kv/core"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as StoreByUrl from "./StoreByUrl.ts"

export const lockName = "nightly-report"

/** The result: this instance made the report, or the report existed already. */
export type Outcome = "made" | "found"

/**
 * Makes the report of a day exactly once, however many instances call it.
 *
 * The lock prevents two instances from working at the same time. Fencing makes the result safe: an instance that was
 * paused for a minute and lost the lock unnoticed cannot write any more.
 */
export const nightlyReport = <E, R>(instance: string, day: string, write: Effect.Effect<string, E, R>) =>
  Effect.gen(function*() {
    const kv = yield* Kv.Kv
    const existing = yield* kv.get(`reports/${day}`)
    if (Option.isSome(existing)) return "found" satisfies Outcome
    yield* kv.put(`reports/${day}`, yield* write)
    return "made" satisfies Outcome
  }).pipe(
    DistLock.withDistLock(lockName, {
      ttl: "10 seconds", // how long the lock stays held after its holder crashes
      acquireTimeout: "1 minute", // then fails with LockTimeout
      maxHold: "10 minutes", // then it is interrupted and fails with LockHoldExceeded
      description: instance // for operators: DistLock.holder, DistLock.waiters
    })
  )

/** Three instances start the same report. */
export const program = Effect.gen(function*() {
  const kv = yield* Kv.Kv
  yield* kv.deleteRange(KeyRange.prefix("reports/"))
  const outcomes = yield* Effect.forEach(
    ["ada", "bert", "cleo"],
    (instance) =>
      nightlyReport(instance, "monday", Effect.as(Effect.sleep("300 millis"), "all is well")).pipe(
        Effect.tap((outcome) => Console.log(`${instance} ${outcome} the report`))
      ),
    { concurrency: "unbounded" }
  )
  return outcomes
})

if (process.argv[1] === import.meta.filename) {
  NodeRuntime.runMain(
    program.pipe(Effect.provide(Kv.layerPrefixed("examples/nightly-report/")), Effect.provide(StoreByUrl.layer))
  )
}
