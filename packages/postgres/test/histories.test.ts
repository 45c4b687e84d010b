/**
 * Histories of real clients on a real server, checked against the store's own history as read by plain SQL.
 */
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import {
  LinearizabilityChecker,
  LockChecker,
  PostgresServer,
  Recorder,
  RevisionChecker,
  Violation,
  WatchChecker,
  Workload
} from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import { changesUpTo } from "./support/history.ts"
import { connect, database } from "./support/store.ts"

/** Runs clients while `meanwhile` acts on the server. Returns their history and the server's own. */
const record = Effect.fnUntraced(
  function*(
    options: Workload.Options,
    meanwhile: (recorder: Recorder.Recorder) => Effect.Effect<unknown, unknown, PostgresServer.PostgresServer>
  ) {
    const client = Effect.map(connect(), (context) => backendOf(Context.get(context, Kv.Kv)))
    const unbatched = Effect.map(connect({ batching: false }), (context) => backendOf(Context.get(context, Kv.Kv)))
    const [batched, alone] = [yield* client, yield* unbatched]
    const recorder = yield* Recorder.make
    const watch = yield* Workload.watch(recorder.client("watcher")(yield* client))
    yield* Effect.all([
      Workload.run(recorder, [batched, batched, batched, batched, batched, batched, alone, alone], options),
      meanwhile(recorder)
    ], { concurrency: 2 })
    const finished = yield* Workload.finish(recorder, batched, [watch])
    return { ...finished, changes: yield* changesUpTo(finished.revision) }
  }
)

type Run = Effect.Success<ReturnType<typeof record>>

const checked = ({ changes, count, history, revision }: Run): RevisionChecker.Report => {
  const report = RevisionChecker.check(history, changes)
  const violations = [
    ...report.violations,
    ...WatchChecker.check(history, changes, {
      readUpTo: (watch) => watch.client === "watcher" ? revision : undefined
    }),
    ...LinearizabilityChecker.check(history),
    ...LockChecker.check(history, { changes, counts: { [`w/${Workload.counter}`]: count } })
  ]
  assert.deepStrictEqual(violations, [], Violation.print(history, violations))
  return report
}

describe("histories on Postgres", () => {
  it.live("histories are correct with and without batching", () =>
    Effect.scoped(Effect.gen(function*() {
      const run = yield* record({ operations: 40 }, () => Effect.void)
      assert.isEmpty(checked(run).unknown.applied)
      assert.isAbove(run.history.holdings.length, 10)
    })).pipe(
      Random.withSeed("histories"),
      Effect.provide(database),
      Effect.provide(PostgresServer.layer())
    ), 60_000)

  it.live(
    "histories are correct across kill -9 of the server, and the outcome of every write without a response is found",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const restart = Effect.fnUntraced(function*(recorder: Recorder.Recorder) {
          const server = yield* PostgresServer.PostgresServer
          const isBusy = Effect.map(recorder.history, ({ calls }) => calls.length > 200)
          yield* Effect.repeat(Effect.andThen(Effect.sleep("5 millis"), isBusy), { until: (yes) => yes })
          yield* server.restart
        })
        const run = yield* record({ operations: 100, locks: false, interrupted: 3 }, restart)
        const { unknown } = checked(run)
        // The outcomes of most are looked up, so hardly any but those of interrupted writes remain unknown.
        assert.isAbove(unknown.applied.length + unknown.notApplied.length, 0)
      })).pipe(
        Random.withSeed("histories"),
        Effect.provide(database),
        Effect.provide(PostgresServer.layer())
      ),
    60_000
  )
})
