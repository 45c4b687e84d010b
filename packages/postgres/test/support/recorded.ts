/**
 * Histories of real clients on a real server, checked against the store's own history as read by plain SQL.
 */
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import type * as PostgresLayer from "@effect-kv/postgres/PostgresLayer"
import {
  LinearizabilityChecker,
  LockChecker,
  Recorder,
  RevisionChecker,
  Violation,
  WatchChecker,
  Workload
} from "@effect-kv/test-suite/verification"
import { assert } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { changesUpTo } from "./history.ts"
import { connect } from "./store.ts"

export interface Run extends Workload.Options {
  /** The clients' options. Of eight clients two do not batch. */
  readonly client?: PostgresLayer.Options | undefined
}

/** The moments of a run that a fault can wait for. */
export interface Progress {
  /** Waits until the clients have made so many calls. */
  readonly calls: (count: number) => Effect.Effect<void>
  /** Waits for something that the clients make happen. Dies if they end before, because it would never happen. */
  readonly whileRunning: <A, E, R>(awaited: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

/** Runs clients while `meanwhile` acts on the server. Returns their history and the server's own. */
export const record = Effect.fnUntraced(
  function*<E, R>(options: Run, meanwhile: (progress: Progress) => Effect.Effect<unknown, E, R>) {
    const client = Effect.map(connect(options.client), (context) => backendOf(Context.get(context, Kv.Kv)))
    const unbatched = Effect.map(
      connect({ ...options.client, batching: false }),
      (context) => backendOf(Context.get(context, Kv.Kv))
    )
    const [batched, alone] = [yield* client, yield* unbatched]
    const recorder = yield* Recorder.make
    const watch = yield* Workload.watch(recorder.client("watcher")(yield* client))
    const clients = [batched, batched, batched, batched, batched, batched, alone, alone]
    const ended = yield* Deferred.make<void>()
    const whileRunning = <A, E, R>(awaited: Effect.Effect<A, E, R>) =>
      Effect.raceFirst(
        awaited,
        Effect.andThen(Deferred.await(ended), Effect.die(new Error("the clients have ended")))
      )
    const calls = (count: number) =>
      whileRunning(Effect.asVoid(Effect.repeat(Effect.map(recorder.history, (history) => history.calls.length), {
        until: (made) => made >= count,
        schedule: Schedule.spaced("5 millis")
      })))
    const run = Effect.ensuring(Workload.run(recorder, clients, options), Deferred.succeed(ended, undefined))
    yield* Effect.all([run, meanwhile({ calls, whileRunning })], { concurrency: 2 })
    const finished = yield* Workload.finish(recorder, batched, [watch])
    return { ...finished, changes: yield* changesUpTo(finished.revision) }
  }
)

/** The most writes of unknown outcome among which the search for an order must come to an end. */
const mostUnknown = 6

/**
 * Fails if the history breaks a promise. Returns the writes whose outcome remained unknown.
 *
 * The check of the revisions is the strictest. The search for an order ignores them, so that it finds what a wrong revision
 * would hide. Each write of unknown outcome may stand anywhere or nowhere in that order, so the search may take
 * exponentially long in their number: if there are many, it gives up early, and the revisions decide.
 */
export const checked = (
  { changes, count, history, revision }: Effect.Success<ReturnType<typeof record>>
): RevisionChecker.Report => {
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
