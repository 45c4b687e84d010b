/**
 * A checker of `RunOnce`: by the store's own history, no tick ran twice and no two runs of a job overlapped.
 *
 * It reads the two keys of a job: each record, and when the runner's key existed. A start that was undone, because its
 * runner could not know that it had started, is not a run.
 */
import type { Change } from "../history/Changes.ts"
import type * as Violation_ from "./Violation.ts"

/**
 * The kinds of violations.
 *
 * @since 0.1.0
 */
export type Kind =
  /** A tick was started again although it had ended, or although it may be started only once. */
  | "TickTwice"
  /** A tick was started after a later one. */
  | "TickOrder"
  /** A run was started while the runner's key of another one existed, or without such a key. */
  | "OverlappingRuns"
  /** The end of a run was recorded without deleting the runner's key, or after that was gone. */
  | "StaleEnd"

/**
 * A violation.
 *
 * @since 0.1.0
 */
export type Violation = Violation_.Violation<Kind>

/**
 * Options of a check.
 *
 * @since 0.1.0
 */
export interface Options {
  /** The names of the jobs, at the root of the store. */
  readonly jobs: ReadonlyArray<string>
  /** The policy of the jobs: with `skip` no tick may be started twice. Default: `retry`. */
  readonly onCrash?: "retry" | "skip" | undefined
  /**
   * The tokens of runs whose function has begun, as the clients know them. Undoing such a start does not make it undone.
   */
  readonly begun?: ReadonlySet<bigint> | undefined
}

/**
 * Checks the ticks of jobs.
 *
 * @example
 * ```ts
 * import { KeyRange, Kv, RunOnce } from "@effect-kv/core"
 * import { MemoryStore } from "@effect-kv/memory"
 * import { Changes, Recorder, TickChecker } from "@effect-kv/test-suite/verification"
 * import { Effect, Stream } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* MemoryStore.make()
 *   const recorder = yield* Recorder.make
 *   const kv = yield* Effect.flatMap(store.connect, (backend) => Kv.make(recorder.client("store")(backend)))
 *   const { revisions } = yield* kv.subscribe(KeyRange.all)
 *   yield* Effect.forkScoped(Stream.runDrain(revisions))
 *   yield* RunOnce.forKey("job", () => Effect.void).pipe(Effect.provideService(Kv.Kv, kv))
 *   const { watches } = yield* recorder.history
 *   const changes = Changes.fromBatches(watches.flatMap(({ batches }) => batches))
 *   TickChecker.check(changes, { jobs: ["job"] }) // => []
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const check = (changes: ReadonlyArray<Change>, options: Options): ReadonlyArray<Violation> =>
  options.jobs.flatMap((job) => checkJob(changes, job, options))

/** The fields of a record that are judged. */
interface Record {
  readonly tick: string | undefined
  readonly state: string
  readonly attempts: number
}

const checkJob = (
  changes: ReadonlyArray<Change>,
  job: string,
  { begun, onCrash = "retry" }: Options
): ReadonlyArray<Violation> => {
  const recordKey = `${job}/once/last`
  const runKey = `${job}/once/run`
  const violations: Array<Violation> = []
  /** The state of each tick that was started, and of the one before an undone start. */
  const states = new Map<string | undefined, string | undefined>()
  let last: Record | undefined
  let before: Before | undefined
  let hasRunner = false
  const revisions = Map.groupBy(
    changes.filter(({ key }) => key === recordKey || key === runKey),
    ({ modRevision }) => modRevision
  )
  for (const [revision, group] of revisions) {
    const report = (kind: Kind, message: string) =>
      violations.push({ kind, message: `${JSON.stringify(job)} ${message}`, records: [], revision })
    const recordChange = group.find(({ key }) => key === recordKey)
    const runChange = group.find(({ key }) => key === runKey)
    const isStart = runChange?.type === "put"
    const isEnd = runChange?.type === "delete" && hasRunner
    const next = recordChange?.type === "put" ? parse(recordChange.valueBytes) : undefined
    const isUndone = isEnd && recordChange !== undefined && before !== undefined && isSame(next, before.record) &&
      begun?.has(before.token) !== true
    if (isUndone) {
      states.set(before!.tick, before!.state)
    } else if (next?.state === "Running") {
      const tick = next.tick ?? "its step"
      const state = states.get(next.tick)
      if (hasRunner || !isStart) report("OverlappingRuns", `started ${tick} ${hasRunner ? "during a run" : "unheld"}`)
      const later = [...states.keys()].find((each) => each !== undefined && next.tick !== undefined && each > next.tick)
      if (later !== undefined) report("TickOrder", `started ${tick} after ${later}`)
      if (state !== undefined && mayNotFollow(state, next.tick, onCrash)) {
        report("TickTwice", `started ${tick} again, which was ${state}`)
      }
      before = { record: last, tick: next.tick, state, token: revision }
      states.set(next.tick, next.state)
    } else if (next !== undefined && next.state !== "Waiting") {
      if (!isEnd) report("StaleEnd", `recorded ${next.state} for ${next.tick ?? "its step"} without the runner's key`)
      states.set(next.tick, next.state)
    } else if (recordChange?.type === "delete") {
      // An operator allows the step to be run once more.
      states.delete(undefined)
    }
    if (recordChange !== undefined) last = next
    if (runChange !== undefined) hasRunner = isStart
  }
  return violations
}

/** What was known before the last start, which its undoing restores. */
interface Before {
  readonly record: Record | undefined
  readonly tick: string | undefined
  readonly state: string | undefined
  readonly token: bigint
}

const isSame = (a: Record | undefined, b: Record | undefined): boolean =>
  a?.tick === b?.tick && a?.state === b?.state && a?.attempts === b?.attempts

/** Whether a tick of this state must not be started. A step without a tick may be run again after it failed. */
const mayNotFollow = (state: string, tick: string | undefined, onCrash: "retry" | "skip"): boolean =>
  state === "Done" || state === "Failed" && tick !== undefined || onCrash === "skip"

const parse = (bytes: Uint8Array): Record => JSON.parse(new TextDecoder().decode(bytes)) as Record
