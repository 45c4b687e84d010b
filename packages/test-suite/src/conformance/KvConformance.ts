/** Conformance suite for backends: the contract of effect-kv as test cases, the same for every backend. */
import * as KeyRange from "@effect-kv/core/KeyRange"
import { describe, it, layer as sharedLayer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import { type Case, type Environment, newClient, type Store } from "./cases/Case.ts"
import * as Clients from "./cases/Clients.ts"
import * as Conditions from "./cases/Conditions.ts"
import * as Configuration from "./cases/Configuration.ts"
import * as ElectionLoss from "./cases/ElectionLoss.ts"
import * as ElectionObservers from "./cases/ElectionObservers.ts"
import * as Elections from "./cases/Elections.ts"
import * as Errors from "./cases/Errors.ts"
import * as FencedFibers from "./cases/FencedFibers.ts"
import * as Fencing from "./cases/Fencing.ts"
import * as Inventories from "./cases/Inventories.ts"
import * as Keys from "./cases/Keys.ts"
import * as Leases from "./cases/Leases.ts"
import * as LiveConfiguration from "./cases/LiveConfiguration.ts"
import * as LockInterruption from "./cases/LockInterruption.ts"
import * as LockLimits from "./cases/LockLimits.ts"
import * as LockLoss from "./cases/LockLoss.ts"
import * as LockRelease from "./cases/LockRelease.ts"
import * as Locks from "./cases/Locks.ts"
import * as LockWaits from "./cases/LockWaits.ts"
import * as Members from "./cases/Members.ts"
import * as Namespaces from "./cases/Namespaces.ts"
import * as NestedFences from "./cases/NestedFences.ts"
import * as Ranges from "./cases/Ranges.ts"
import * as RangeStreams from "./cases/RangeStreams.ts"
import * as Rendezvous from "./cases/Rendezvous.ts"
import * as Revisions from "./cases/Revisions.ts"
import * as RunOnce from "./cases/RunOnce.ts"
import * as RwLocks from "./cases/RwLocks.ts"
import * as Semaphores from "./cases/Semaphores.ts"
import * as SequencesAndCounters from "./cases/SequencesAndCounters.ts"
import * as Sessions from "./cases/Sessions.ts"
import * as SharedSessions from "./cases/SharedSessions.ts"
import * as Singletons from "./cases/Singletons.ts"
import * as Slots from "./cases/Slots.ts"
import * as TempKeyConflicts from "./cases/TempKeyConflicts.ts"
import * as TempKeys from "./cases/TempKeys.ts"
import * as TestAndSet from "./cases/TestAndSet.ts"
import * as Transactions from "./cases/Transactions.ts"
import * as TryAcquire from "./cases/TryAcquire.ts"
import * as Txns from "./cases/Txns.ts"
import * as TypedValues from "./cases/TypedValues.ts"
import * as Unreachable from "./cases/Unreachable.ts"
import * as Values from "./cases/Values.ts"
import * as Views from "./cases/Views.ts"
import * as Watches from "./cases/Watches.ts"
import * as WatchHistory from "./cases/WatchHistory.ts"
import * as WatchResume from "./cases/WatchResume.ts"
import * as WatchStreams from "./cases/WatchStreams.ts"
import * as Writes from "./cases/Writes.ts"
import { mostAttempts, unlessStalled } from "./unlessStalled.ts"

export { defaultLimits, Store } from "./cases/Case.ts"
export type { Case, Environment, Limits } from "./cases/Case.ts"

/**
 * Every case, chapter by chapter.
 *
 * @since 0.1.0
 */
export const cases: ReadonlyArray<Case> = [
  ...Keys.cases,
  ...Values.cases,
  ...Ranges.cases,
  ...RangeStreams.cases,
  ...Writes.cases,
  ...Conditions.cases,
  ...Txns.cases,
  ...TestAndSet.cases,
  ...Transactions.cases,
  ...Errors.cases,
  ...Unreachable.cases,
  ...Revisions.cases,
  ...Leases.cases,
  ...Namespaces.cases,
  ...Clients.cases,
  ...Watches.cases,
  ...WatchHistory.cases,
  ...WatchStreams.cases,
  ...WatchResume.cases,
  ...Views.cases,
  ...Configuration.cases,
  ...LiveConfiguration.cases,
  ...Locks.cases,
  ...TryAcquire.cases,
  ...LockLimits.cases,
  ...LockLoss.cases,
  ...LockWaits.cases,
  ...LockRelease.cases,
  ...LockInterruption.cases,
  ...Elections.cases,
  ...RunOnce.cases,
  ...ElectionLoss.cases,
  ...ElectionObservers.cases,
  ...Singletons.cases,
  ...Semaphores.cases,
  ...RwLocks.cases,
  ...Rendezvous.cases,
  ...Fencing.cases,
  ...FencedFibers.cases,
  ...NestedFences.cases,
  ...Sessions.cases,
  ...SharedSessions.cases,
  ...TempKeys.cases,
  ...TempKeyConflicts.cases,
  ...Members.cases,
  ...TypedValues.cases,
  ...SequencesAndCounters.cases,
  ...Slots.cases,
  ...Inventories.cases
]

/**
 * Options of a run of the suite.
 *
 * @since 0.1.0
 */
export interface Options<out E> {
  /** The store under test. A store that follows the test clock provides that as well: see the README. */
  readonly layer: Layer.Layer<Store, E>
  /**
   * True for a store that is made once for all cases, such as a server that takes time to start. It is emptied before
   * each case. A case that waits for such a store is repeated, at most twice, if it failed while the event loop of the
   * tests was stalled: their process was not let run. Default: each case gets a store of its own.
   */
  readonly shared?: boolean | undefined
  /** Milliseconds that a case may take, for each time that it runs. Default: 120,000. */
  readonly timeout?: number | undefined
}

/**
 * Registers every case with vitest, under the name of the backend.
 *
 * **When to use**
 *
 * In a test file of your backend.
 *
 * @example
 * ```ts norun
 * import { Kv } from "@effect-kv/core"
 * import { MemoryStore } from "@effect-kv/memory"
 * import { KvConformance } from "@effect-kv/test-suite/conformance"
 * import { Effect, Layer } from "effect"
 * import { TestClock } from "effect/testing"
 *
 * const store = Effect.gen(function*() {
 *   const memory = yield* MemoryStore.make()
 *   return KvConformance.Store.of({
 *     client: Effect.flatMap(memory.connect, Kv.make),
 *     compact: memory.compact,
 *     passTime: (duration) => TestClock.adjust(duration),
 *     limits: KvConformance.defaultLimits
 *   })
 * })
 *
 * KvConformance.suite("my backend", {
 *   layer: Layer.effect(KvConformance.Store, store).pipe(Layer.provideMerge(TestClock.layer()))
 * })
 * ```
 *
 * @since 0.1.0
 */
export const suite = <E>(name: string, options: Options<E>): void => {
  const timeout = options.timeout ?? 120_000
  if (options.shared === true) {
    sharedLayer(options.layer, { excludeTestServices: true, timeout: "2 minutes" })(name, (it) => {
      register((each) =>
        each.waits
          ? it.effect(each.title, () => unlessStalled(each.run), mostAttempts * timeout)
          : it.effect(each.title, () => Effect.andThen(empty, each.run), timeout)
      )
    })
  } else {
    describe(name, () => {
      register((each) => it.live(each.title, () => Effect.provide(Effect.scoped(each.run), options.layer), timeout))
    })
  }
}

/**
 * Registers one `describe` for each chapter, and a second one for its cases that mostly wait. Those stand at the end and
 * run concurrently, also across chapters.
 */
const register = (test: (each: Case) => void): void => {
  const chapters = [...new Set(cases.map(({ chapter }) => chapter))].map((chapter) => ({
    chapter,
    ofChapter: cases.filter((each) => each.chapter === chapter)
  }))
  for (const { chapter, ofChapter } of chapters) {
    describe(chapter, () => ofChapter.filter(({ waits }) => !waits).forEach(test))
  }
  for (const { chapter, ofChapter } of chapters) {
    const waiting = ofChapter.filter(({ waits }) => waits)
    if (waiting.length > 0) {
      describe(`${chapter}, as time passes`, { concurrent: true }, () => waiting.forEach(test))
    }
  }
}

/** Deletes every key. */
const empty: Effect.Effect<void, unknown, Environment> = Effect.scoped(
  Effect.flatMap(newClient, (kv) => Effect.asVoid(kv.deleteRange(KeyRange.all)))
)
