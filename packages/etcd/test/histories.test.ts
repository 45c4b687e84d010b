/**
 * Histories of real clients on a real server, checked against the server's own history as read by `etcdctl`.
 */
import { backendOf } from "@effect-kv/core/KvInternals"
import {
  EtcdCluster,
  LinearizabilityChecker,
  LockChecker,
  Recorder,
  RevisionChecker,
  Violation,
  WatchChecker,
  Workload
} from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import { client } from "./support/client.ts"

/** Runs clients while `meanwhile` acts on the server. Returns their history and the server's own. */
const record = Effect.fnUntraced(
  function*(
    options: Workload.Options,
    meanwhile: (recorder: Recorder.Recorder) => Effect.Effect<unknown, unknown, EtcdCluster.EtcdCluster>
  ) {
    const cluster = yield* EtcdCluster.EtcdCluster
    const own = yield* cluster.watchFrom()
    const connect = Effect.map(client({ endpoints: cluster.endpoints }), (kv) => backendOf(kv))
    const unbatched = Effect.map(client({ endpoints: cluster.endpoints, batching: false }), (kv) => backendOf(kv))
    const [batched, alone] = [yield* connect, yield* unbatched]
    const recorder = yield* Recorder.make
    const watch = yield* Workload.watch(recorder.client("watcher")(yield* connect))
    yield* Effect.all([
      Workload.run(recorder, [batched, batched, batched, batched, batched, batched, alone, alone], options),
      meanwhile(recorder)
    ], { concurrency: 2 })
    const finished = yield* Workload.finish(recorder, batched, [watch])
    return { ...finished, changes: yield* own.upTo(finished.revision) }
  }
)

type Run = Effect.Success<ReturnType<typeof record>>

/** The most writes of unknown outcome among which the search for an order must come to an end. */
const mostUnknown = 6

/**
 * The check of the revisions is the strictest. The search for an order ignores them, so that it finds what a wrong revision
 * would hide. Each write of unknown outcome may stand anywhere or nowhere in that order, so the search may take
 * exponentially long in their number: if there are many, it gives up early, and the revisions decide.
 */
const checked = ({ changes, count, history, revision }: Run): RevisionChecker.Report => {
  const report = RevisionChecker.check(history, changes)
  const mayGiveUp = report.unknown.applied.length + report.unknown.notApplied.length > mostUnknown
  const order = LinearizabilityChecker.check(history, mayGiveUp ? { budget: 200_000 } : {})
  const violations = [
    ...report.violations,
    ...WatchChecker.check(history, changes, {
      readUpTo: (watch) => watch.client === "watcher" ? revision : undefined
    }),
    ...(mayGiveUp ? order.filter(({ kind }) => kind !== "OutOfBudget") : order),
    ...LockChecker.check(history, { changes, counts: { [`w/${Workload.counter}`]: count } })
  ]
  assert.deepStrictEqual(violations, [], Violation.print(history, violations))
  return report
}

const scenario = <E>(run: Effect.Effect<void, E, EtcdCluster.EtcdCluster>) =>
  run.pipe(Random.withSeed("histories"), Effect.provide(EtcdCluster.layer()))

describe(`histories on etcd ${process.env["EFFECT_KV_ETCD"] ?? ""}`, () => {
  it.live("histories are correct with and without batching", () =>
    scenario(Effect.scoped(Effect.gen(function*() {
      const run = yield* record({ operations: 40 }, () => Effect.void)
      assert.isEmpty(checked(run).unknown.applied)
      assert.isAbove(run.history.holdings.length, 10)
    }))), 60_000)

  it.live(
    "histories are correct across kill -9 of the server, and the outcome of every write without a response is found",
    () =>
      scenario(Effect.scoped(Effect.gen(function*() {
        const restart = Effect.fnUntraced(function*(recorder: Recorder.Recorder) {
          const { member } = yield* EtcdCluster.EtcdCluster
          const isBusy = Effect.map(recorder.history, ({ calls }) => calls.length > 200)
          yield* Effect.repeat(Effect.andThen(Effect.sleep("5 millis"), isBusy), { until: (yes) => yes })
          yield* member.restart
        })
        const run = yield* record({ operations: 100, locks: false, interrupted: 3 }, restart)
        const { unknown } = checked(run)
        assert.isAbove(unknown.applied.length + unknown.notApplied.length, 2)
      }))),
    60_000
  )
})
