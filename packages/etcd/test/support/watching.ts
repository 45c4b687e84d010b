/**
 * Helpers that read watches in tests.
 */
import type * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import type * as Watch from "@effect-kv/core/Watch"
import { EtcdCluster } from "@effect-kv/test-suite/verification"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

export const watch = (
  kv: Kv.Kv,
  range: KeyRange.KeyRange,
  options?: Omit<Watch.WatchRequest, "range">
): Effect.Effect<Watch.Watcher, KvError, Scope.Scope> => backendOf(kv).watch({ range, ...options })

/** All batches up to the revision, which must contain an event. Dies if a batch repeats or is out of order. */
export const batchesUpTo = Effect.fnUntraced(function*(watcher: Watch.Watcher, revision: bigint) {
  const batches: Array<Watch.Revision> = []
  let last = watcher.revision
  while (last < revision) {
    for (const batch of yield* watcher.take) {
      if (batch.revision <= last) return yield* Effect.die(new Error(`revision ${batch.revision} came after ${last}`))
      last = batch.revision
      batches.push(batch)
    }
  }
  return batches
})

/** One line for each revision: `12 put a=1, delete b`. */
export const linesOf = (batches: ReadonlyArray<Watch.Revision>): ReadonlyArray<string> =>
  batches.map(({ events, revision }) => `${revision} ${events.map(wordsOf).join(", ")}`)

const wordsOf = (event: Watch.Event): string =>
  event._tag === "Put" ? `put ${event.key}=${event.entry.lossyText}` : `delete ${event.key}`

/** The same lines, from what `etcdctl watch` recorded. */
export const linesOfHistory = (history: ReadonlyArray<EtcdCluster.HistoryEvent>): ReadonlyArray<string> => {
  const lines = new Map<bigint, Array<string>>()
  for (const { key, modRevision, type, value } of history) {
    const words = type === "put" ? `put ${key}=${value}` : `delete ${key}`
    const line = lines.get(modRevision)
    if (line === undefined) lines.set(modRevision, [words])
    else line.push(words)
  }
  return [...lines].map(([revision, words]) => `${revision} ${words.join(", ")}`)
}

/** Waits until the watch's status is of this kind. */
export const untilStatus = (watcher: Watch.Watcher, tag: Watch.Status["_tag"]): Effect.Effect<void> =>
  Stream.runDrain(Stream.takeUntil(watcher.status, (status) => status._tag === tag))

/** The number of watches on a server. */
export const watcherCount = (member?: EtcdCluster.Member) =>
  Effect.gen(function*() {
    const cluster = yield* EtcdCluster.EtcdCluster
    const metrics = yield* cluster.metrics(member)
    return metrics.get("etcd_debugging_mvcc_watcher_total")
  })

/** Waits until the condition holds, for at most 50 seconds. Then it dies with an error from where it was called. */
export const eventually = <E, R>(condition: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> => {
  const tooLate = new Error("the condition did not hold within 50 seconds")
  return Effect.repeat(condition, { until: (value) => value, schedule: Schedule.spaced("20 millis") }).pipe(
    Effect.asVoid,
    Effect.timeoutOrElse({ duration: "50 seconds", orElse: () => Effect.die(tooLate) })
  )
}

/** The next batches, or `none` if none arrive for a while. */
export const takeWithin = (watcher: Watch.Watcher, millis: number) =>
  Effect.map(Effect.timeoutOption(watcher.take, millis), Option.getOrUndefined)
