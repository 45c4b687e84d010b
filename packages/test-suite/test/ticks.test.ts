/**
 * `TickChecker` judges the runs of `RunOnce` by the store's history, and finds stores and clients that break its promise.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as Op from "@effect-kv/core/Op"
import * as RunOnce from "@effect-kv/core/RunOnce"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { Changes, Recorder, TickChecker } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Cron from "effect/Cron"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import { kinds } from "./smallHistories.ts"

const everyMinute = Cron.parseUnsafe("* * * * *", "UTC")

/** A wall clock that is fast. */
const fastBy = (millis: number, clock: Clock.Clock): Clock.Clock => {
  const currentTimeMillisUnsafe = () => clock.currentTimeMillisUnsafe() + millis
  const currentTimeNanosUnsafe = () => clock.currentTimeNanosUnsafe() + BigInt(millis) * 1_000_000n
  return {
    currentTimeMillisUnsafe,
    currentTimeMillis: Effect.sync(currentTimeMillisUnsafe),
    currentTimeNanosUnsafe,
    currentTimeNanos: Effect.sync(currentTimeNanosUnsafe),
    monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
    monotonicTimeNanos: clock.monotonicTimeNanos,
    sleep: (duration) => clock.sleep(duration)
  }
}

/**
 * The changes of a store during the work of several instances, and how often each tick was run. There is an instance for
 * each number of seconds by which its clock is fast.
 */
const recorded = (
  between: (backend: KvBackend) => KvBackend,
  options?: RunOnce.CronOptions,
  { fastBySeconds = [0, 0, 0], minutes = 10 } = {}
) =>
  Effect.scoped(Effect.gen(function*() {
    const store = yield* MemoryStore.make()
    const recorder = yield* Recorder.make
    const watcher = yield* recorder.client("store")(yield* store.connect).watch({ range: KeyRange.all })
    yield* Effect.forkScoped(Effect.ignore(Effect.forever(watcher.take)))
    const runs: Array<number> = []
    const begun = new Set<bigint>()
    const instance = Effect.fnUntraced(function*(seconds: number) {
      const kv = yield* Effect.flatMap(store.connect, (backend) => Kv.make(between(backend)))
      return yield* Effect.forkScoped(
        RunOnce.cron("job", everyMinute, ({ scheduled, token }) =>
          Effect.sync(() => {
            begun.add(token)
            runs.push(scheduled.epochMilliseconds)
          }), {
          ...options
        }).pipe(
          Effect.provideService(Kv.Kv, kv),
          Effect.provideService(Clock.Clock, fastBy(seconds * 1000, yield* Clock.Clock))
        )
      )
    })
    const fibers = yield* Effect.forEach(fastBySeconds, instance)
    for (let i = 0; i < 2 * minutes; i++) yield* TestClock.adjust("30 seconds")
    yield* TestClock.adjust("10 seconds")
    yield* Fiber.interruptAll(fibers)
    yield* TestClock.adjust("10 seconds")
    const { watches } = yield* recorder.history
    return { changes: Changes.fromBatches(watches.flatMap(({ batches }) => batches)), runs, begun }
  }))

/** A store that executes the starts of runs without their conditions, for clients whose watches are slow. */
const unconditional = (backend: KvBackend): KvBackend => ({
  ...backend,
  execute: (op) =>
    backend.execute(
      op._tag === "Txn" && op.then.some((each) => each._tag === "Put" && each.key === "job/once/run")
        ? Op.txn({ then: op.then, else: op.else })
        : op
    ),
  watch: (request) =>
    Effect.map(backend.watch(request), (watcher) => ({
      ...watcher,
      take: Effect.tap(watcher.take, () => Effect.sleep("1 second"))
    }))
})

/** A client that records the end of its first run as if the tick had not run. */
const forgetful = () => {
  let hasForgotten = false
  return (backend: KvBackend): KvBackend => ({
    ...backend,
    execute: (op) => {
      if (hasForgotten || op._tag !== "Txn" || !op.then.some((each) => each._tag === "Delete")) {
        return backend.execute(op)
      }
      hasForgotten = true
      const waiting = JSON.stringify({ tick: new Date(0).toISOString(), state: "Waiting", by: "", attempts: 0 })
      return backend.execute(Op.txn({ if: op.if, then: [Op.delete("job/once/run"), Op.put("job/once/last", waiting)] }))
    }
  })
}

describe("the ticks of several instances", () => {
  for (const onCrash of ["retry", "skip"] as const) {
    it.effect(`run once: ${onCrash}`, () =>
      Effect.gen(function*() {
        const { begun, changes, runs } = yield* recorded((backend) => backend, { onCrash })
        assert.strictEqual(runs.length, 10)
        assert.strictEqual(new Set(runs).size, 10)
        assert.deepStrictEqual(TickChecker.check(changes, { jobs: ["job"], onCrash, begun }), [])
      }))
  }

  it.effect("run once each in 100 minutes even if the clocks are seconds apart and a run is over at once", () =>
    Effect.gen(function*() {
      const { begun, changes, runs } = yield* recorded((backend) => backend, undefined, {
        fastBySeconds: [10, 7, 5, 2, 0],
        minutes: 100
      })
      assert.deepStrictEqual(runs, Array.from({ length: 100 }, (_, i) => (i + 1) * 60_000))
      assert.deepStrictEqual(TickChecker.check(changes, { jobs: ["job"], begun }), [])
    }))

  it.effect("of a store that ignores conditions are found to overlap or to run twice", () =>
    Effect.gen(function*() {
      const { changes, runs } = yield* recorded(unconditional)
      assert.isAbove(runs.length, new Set(runs).size)
      assert.isNotEmpty(TickChecker.check(changes, { jobs: ["job"] }))
    }))

  it.effect("of a client that does not record their end are found to run twice", () =>
    Effect.gen(function*() {
      const { begun, changes } = yield* recorded(forgetful(), { onCrash: "skip" })
      assert.include(kinds(TickChecker.check(changes, { jobs: ["job"], onCrash: "skip", begun })), "TickTwice")
    }))
})

describe("TickChecker", () => {
  const put = (revision: number, key: string, value: string): Changes.Change => ({
    type: "put",
    key,
    valueBytes: new TextEncoder().encode(value),
    modRevision: BigInt(revision),
    createRevision: BigInt(revision),
    version: 1n,
    lease: 0n
  })
  const deleted = (revision: number, key: string): Changes.Change => ({
    ...put(revision, key, ""),
    type: "delete",
    createRevision: 0n,
    version: 0n
  })
  const record = (revision: number, tick: string | undefined, state: string) =>
    put(revision, "job/once/last", JSON.stringify({ tick, state, by: "", attempts: 1 }))
  const start = (
    revision: number,
    tick?: string
  ) => [record(revision, tick, "Running"), put(revision, "job/once/run", "")]
  const end = (revision: number, tick: string | undefined, state: string) => [
    record(revision, tick, state),
    deleted(revision, "job/once/run")
  ]
  const found = (onCrash: "retry" | "skip", ...changes: ReadonlyArray<ReadonlyArray<Changes.Change>>) =>
    kinds(TickChecker.check(changes.flat(), { jobs: ["job"], onCrash }))

  it("accepts ticks in order, an undone start, and a retry after a crash", () => {
    assert.deepStrictEqual(
      found(
        "skip",
        [record(2, "t0", "Waiting")],
        start(3, "t1"),
        end(4, "t0", "Waiting"),
        start(5, "t1"),
        end(6, "t1", "Done"),
        start(7, "t2")
      ),
      []
    )
    assert.deepStrictEqual(
      found(
        "retry",
        start(3, "t1"),
        [deleted(4, "job/once/run")],
        start(5, "t1"),
        end(6, "t1", "Running"),
        start(7, "t1")
      ),
      []
    )
    assert.deepStrictEqual(
      found("retry", start(3), end(4, undefined, "Failed"), start(5), end(6, undefined, "Done")),
      []
    )
  })

  it("finds a tick that runs twice, out of order, during another run, or is ended by a stale runner", () => {
    for (const state of ["Done", "Failed"]) {
      assert.deepStrictEqual(found("retry", start(3, "t1"), end(4, "t1", state), start(5, "t1")), ["TickTwice"])
    }
    assert.deepStrictEqual(found("retry", start(3), end(4, undefined, "Done"), start(5)), ["TickTwice"])
    assert.deepStrictEqual(found("skip", start(3, "t1"), [deleted(4, "job/once/run")], start(5, "t1")), ["TickTwice"])
    assert.deepStrictEqual(found("retry", start(3, "t2"), end(4, "t2", "Done"), start(5, "t1")), ["TickOrder"])
    assert.deepStrictEqual(found("retry", start(3, "t1"), start(4, "t2")), ["OverlappingRuns"])
    assert.deepStrictEqual(found("retry", [record(3, "t1", "Running")]), ["OverlappingRuns"])
    assert.deepStrictEqual(found("retry", start(3, "t1"), [deleted(4, "job/once/run")], [record(5, "t1", "Done")]), [
      "StaleEnd"
    ])
  })
})
