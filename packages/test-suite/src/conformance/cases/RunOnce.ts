/**
 * Work that runs once in a fleet: the ticks of a schedule, whatever the clocks say, and steps that stay done.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as Fence from "@effect-kv/core/Fence"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as RunOnce from "@effect-kv/core/RunOnce"
import { assert } from "@effect/vitest"
import * as Cron from "effect/Cron"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { chapter, newClient, promptly, reasonOf, Store, test, waitingTest } from "./Case.ts"
import { by, HandClock } from "./clocks.ts"
import { entryOf, putWhether, textOf } from "./entries.ts"
import * as faults from "./faults.ts"
import { exitOf, failedWith, on, soon } from "./locking.ts"

const midnight = Date.UTC(2030, 0, 1)
const everyMinute = Cron.parseUnsafe("* * * * *", "UTC")

/** The tick's place in the day, such as `00:01`. */
const minuteOf = ({ scheduled }: RunOnce.Tick) => DateTime.formatIso(scheduled).slice(11, 16)

/** Lets time pass in small steps until the condition holds. */
const until = Effect.fnUntraced(function*<E, R>(what: string, condition: Effect.Effect<boolean, E, R>) {
  const store = yield* Store
  yield* promptly(
    what,
    Effect.gen(function*() {
      while (!(yield* condition)) yield* store.passTime("20 millis")
    })
  )
})

/** An instance of a cron, on a clock of its own, that has registered and waits for its next tick. */
const instance = Effect.fnUntraced(function*<A, E>(
  kv: Kv.Kv,
  name: string,
  f: (tick: RunOnce.Tick) => Effect.Effect<A, E, Kv.Kv>,
  options?: RunOnce.CronOptions & { readonly clock?: HandClock }
) {
  const clock = options?.clock ?? new HandClock(midnight)
  const fiber = yield* Effect.forkScoped(on(kv)(by(clock)(RunOnce.cron(name, everyMinute, f, options))))
  yield* until("the instance waits for a tick", Effect.sync(() => clock.sleepers > 0))
  return { clock, fiber }
})

const statusOf = (kv: Kv.Kv, name: string) => Effect.map(on(kv)(RunOnce.status(name)), Option.getOrUndefined)

const untilState = (kv: Kv.Kv, name: string, state: RunOnce.Status["state"]) =>
  until(`${name} is ${state}`, Effect.map(statusOf(kv, name), (status) => status?.state === state))

const isRunning = (kv: Kv.Kv, name: string) => Effect.map(kv.getEntry(`${name}/once/run`), Option.isSome)

/** A function that records its ticks. */
const recorder = () => {
  const ticks: Array<string> = []
  return { ticks, run: (tick: RunOnce.Tick) => Effect.sync(() => ticks.push(minuteOf(tick))) }
}

export const cases = chapter("run once", [
  test("a run is one transaction that starts it and one that ends it, and leaves its record", function*(kv) {
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    yield* on(client)(RunOnce.forKey("keeps-the-session", () => Effect.void))
    seen.calls.length = 0
    const result = yield* on(client)(RunOnce.forKey("job", ({ token }) =>
      Effect.gen(function*() {
        const run = yield* entryOf(kv, "job/once/run")
        assert.strictEqual(run.createRevision, token)
        assert.isTrue(Option.isSome(run.lease))
        assert.strictEqual(run.lossyText, "host a")
        const record = yield* entryOf(kv, "job/once/last")
        assert.strictEqual(record.modRevision, token)
        assert.deepStrictEqual(record.lease, Option.none())
        assert.deepStrictEqual(JSON.parse(record.lossyText), { state: "Running", by: "host a", attempts: 1 })
        return "result"
      }), { description: "host a" }))
    assert.deepStrictEqual(result, Option.some("result"))
    assert.deepStrictEqual(
      seen.calls.filter(({ kind }) => kind === "execute").map(({ op }) => op?._tag),
      ["Range", "Range", "Range", "Txn", "Txn"],
      "the record and what the two views begin with, the start and the end"
    )
    assert.deepStrictEqual(yield* statusOf(kv, "job"), {
      state: "Done",
      scheduled: Option.none(),
      description: "host a",
      attempts: 1
    })
    assert.deepStrictEqual(yield* kv.getEntry("job/once/run"), Option.none())
  }),

  test("what is done stays done, and to learn that is one read", function*(kv) {
    yield* on(kv)(RunOnce.forKey("job", () => Effect.void))
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    assert.deepStrictEqual(yield* on(client)(RunOnce.forKey("job", () => Effect.die("again"))), Option.none())
    assert.deepStrictEqual(seen.calls.map(({ op }) => op?._tag), ["Range"])
    yield* kv.delete("job/once/last")
    assert.deepStrictEqual(yield* on(client)(RunOnce.forKey("job", () => Effect.succeed(1))), Option.some(1))
  }),

  test("of several clients one runs it, and the others wait until it is done", function*(kv) {
    const barrier = yield* faults.barrier
    const clients = [kv, yield* newClient, yield* newClient]
    const runs = yield* Effect.forEach(
      clients,
      (client, i) => Effect.forkScoped(on(client)(RunOnce.forKey("job", () => Effect.as(barrier.stop, i))))
    )
    yield* promptly("one runs", barrier.reached)
    assert.isTrue(runs.every((fiber) => fiber.pollUnsafe() === undefined))
    yield* barrier.letGo
    const results = yield* promptly("all return", Effect.forEach(runs, Fiber.join))
    assert.strictEqual(results.filter(Option.isSome).length, 1)
    assert.strictEqual((yield* statusOf(kv, "job"))?.attempts, 1)
  }),

  test("fibers of one client run it once, and the others wait", function*(kv) {
    let runs = 0
    const run = RunOnce.forKey("job", () => Effect.sync(() => ++runs))
    const results = yield* promptly("all", Effect.all([run, run, run, run], { concurrency: "unbounded" }).pipe(on(kv)))
    assert.deepStrictEqual(results.filter(Option.isSome), [Option.some(1)])
    assert.strictEqual(runs, 1)
  }),

  test("a fiber that would wait for its own run is rejected, and a fiber that it started waits", function*(kv) {
    const job = RunOnce.forKey("job", () => Effect.void)
    const runs = yield* Effect.forkScoped(
      on(kv)(RunOnce.forKey("job", () =>
        Effect.gen(function*() {
          const reason = yield* reasonOf(job)
          assert.strictEqual(reason._tag, "InvalidRequest")
          assert.deepStrictEqual(yield* RunOnce.forKey("other", () => Effect.succeed(1)), Option.some(1))
          return yield* Effect.forkDetach(job)
        })))
    )
    const child = Option.getOrThrow(yield* promptly("the run", Fiber.join(runs)))
    assert.deepStrictEqual(yield* promptly("the child's wait", Fiber.join(child)), Option.none())
  }),

  test("a function that fails fails its call, and the next call runs it again", function*(kv) {
    const exit = yield* Effect.exit(on(kv)(RunOnce.forKey("job", () => Effect.fail({ _tag: "Own" as const }))))
    failedWith(exit, "Own")
    assert.deepStrictEqual([(yield* statusOf(kv, "job"))?.state, yield* isRunning(kv, "job")], ["Failed", false])
    const attempts = yield* on(kv)(RunOnce.forKey("job", ({ attempt }) => Effect.succeed(attempt)))
    assert.deepStrictEqual(attempts, Option.some(2))
    assert.deepStrictEqual(yield* on(kv)(RunOnce.forKey("job", () => Effect.void)), Option.none())
  }),

  test("a call that waits runs the function when the runner is interrupted, at once", function*(kv) {
    const barrier = yield* faults.barrier
    const runner = yield* Effect.forkScoped(
      on(yield* newClient)(RunOnce.forKey("job", () => barrier.stop, { ttl: "1 hour" }))
    )
    yield* promptly("it runs", barrier.reached)
    const waiting = yield* Effect.forkScoped(on(kv)(RunOnce.forKey("job", ({ attempt }) => Effect.succeed(attempt))))
    yield* Fiber.interrupt(runner)
    assert.deepStrictEqual(yield* promptly("the other runs it", Fiber.join(waiting)), Option.some(2))
  }),

  test("a run whose key is deleted is interrupted, fails with LockLost, and its writes are rejected", function*(kv) {
    const barrier = yield* faults.barrier
    const deaf = faults.make()
    const client = yield* faults.newClientWith(deaf)
    const reasons: Array<string> = []
    const runner = yield* Effect.forkScoped(
      on(client)(RunOnce.forKey("job", () =>
        Effect.uninterruptible(Effect.gen(function*() {
          yield* client.put("written", "1")
          yield* barrier.stop
          reasons.push((yield* Effect.orDie(reasonOf(client.put("written", "2"))))._tag)
        }))))
    )
    yield* promptly("it runs", barrier.reached)
    yield* kv.delete("job/once/run")
    yield* barrier.letGo
    failedWith(yield* promptly("the loss", Fiber.await(runner)), "LockLost")
    assert.deepStrictEqual(reasons, ["LockLost"])
    assert.strictEqual(yield* textOf(kv, "written"), "1")
    assert.strictEqual((yield* statusOf(kv, "job"))?.state, "Crashed")
  }),

  test("a start whose response is lost is undone: nothing was run, and the next call runs it", function*(kv) {
    const lossy = faults.make()
    const client = yield* faults.newClientWith(lossy)
    lossy.after = (call) => faults.isEntry(call) && !faults.isRemoval(call) ? faults.lostResponse : Effect.void
    const reason = yield* reasonOf(on(client)(RunOnce.forKey("job", () => Effect.die("not to be run"))))
    assert.strictEqual(reason._tag, "Unavailable")
    yield* soon("the start is undone", Effect.map(kv.getEntry("job/once/last"), Option.isNone))
    assert.isFalse(yield* isRunning(kv, "job"))
    lossy.after = () => Effect.void
    const attempt = yield* on(client)(RunOnce.forKey("job", ({ attempt }) => Effect.succeed(attempt)))
    assert.deepStrictEqual(attempt, Option.some(1))
  }),

  test("jobs whose names extend each other do not interfere", function*(kv) {
    const ran: Array<string> = []
    for (const name of ["jobs/2", "jobs2", "jobs", "jobs/run", "jobs/once/run"]) {
      yield* on(kv)(RunOnce.forKey(name, () => Effect.sync(() => ran.push(name))))
    }
    assert.deepStrictEqual(ran, ["jobs/2", "jobs2", "jobs", "jobs/run", "jobs/once/run"])
    yield* on(Kv.prefixed(kv, "app/"))(RunOnce.forKey("jobs", () => Effect.sync(() => ran.push("app"))))
    assert.strictEqual(ran.at(-1), "app")
    assert.isTrue(Option.isSome(yield* kv.getEntry("app/jobs/once/last")))
  }),

  test("a name that is no key, options that are wrong and a foreign value are rejected", function*(kv) {
    yield* kv.put("foreign/once/last", "text")
    const run = () => Effect.void
    const calls: ReadonlyArray<Effect.Effect<unknown, unknown, Kv.Kv>> = [
      RunOnce.forKey("", run),
      RunOnce.cron("", everyMinute, run),
      RunOnce.status(""),
      RunOnce.forKey("job", run, { ttl: 0 }),
      RunOnce.cron("job", everyMinute, run, { maxHold: -1 }),
      RunOnce.cron("job", Cron.parseUnsafe("0 0 30 2 *"), run),
      RunOnce.forKey("foreign", run),
      RunOnce.cron("foreign", everyMinute, run),
      RunOnce.status("foreign")
    ]
    for (const call of calls) assert.strictEqual((yield* reasonOf(on(kv)(call)))._tag, "InvalidRequest")
    assert.strictEqual(yield* kv.count(KeyRange.all), 1)
  }),

  waitingTest("each tick runs once, also if the clocks of the instances are seconds apart", function*(kv) {
    const name = "run-once/skew"
    const { run, ticks } = recorder()
    const clocks: Array<HandClock> = []
    for (const seconds of [-5, -2, 0, 3, 5]) {
      const client = clocks.length === 0 ? kv : yield* newClient
      const { clock } = yield* instance(client, name, run, { clock: new HandClock(midnight + 30_000 + seconds * 1000) })
      clocks.push(clock)
    }
    const expected: Array<string> = []
    for (let i = 1; i <= 6; i++) {
      // The clock that is ahead comes to the tick first, and the run has ended long before the last one does.
      for (const clock of clocks.toReversed()) {
        yield* clock.advance("1 minute")
        yield* until("the tick has run", Effect.sync(() => ticks.length === i))
        yield* until("it waits for the next tick", Effect.sync(() => clock.sleepers > 0))
      }
      expected.push(`00:0${i}`)
      assert.deepStrictEqual(ticks, expected)
    }
    assert.strictEqual((yield* statusOf(kv, name))?.attempts, 1)
  }),

  waitingTest("instances that do not run a tick send no request for it", function*(kv) {
    const name = "run-once/idle"
    const { run, ticks } = recorder()
    const first = yield* instance(kv, name, run)
    const seen = faults.make()
    const second = yield* instance(yield* faults.newClientWith(seen), name, () => Effect.die("not to be run"))
    seen.calls.length = 0
    for (let i = 1; i <= 3; i++) {
      yield* first.clock.advance("1 minute")
      yield* until("the tick has run", Effect.sync(() => ticks.length === i))
      yield* untilState(kv, name, "Done")
      const { modRevision } = yield* entryOf(kv, `${name}/once/last`)
      yield* until(
        "the other instance has seen it",
        Effect.sync(() => ["last", "run"].every((key) => seen.delivered.get(`${name}/once/${key}`) === modRevision))
      )
      yield* second.clock.advance("1 minute")
      yield* until("it waits for the next tick", Effect.sync(() => second.clock.sleepers > 0))
    }
    assert.deepStrictEqual(seen.calls, [])
  }),

  waitingTest("a tick that is running when the next comes due does not overlap with it", function*(kv) {
    const name = "run-once/overlap"
    const barrier = yield* faults.barrier
    const ticks: Array<string> = []
    const job = (tick: RunOnce.Tick) =>
      Effect.suspend(() => ticks.push(minuteOf(tick)) === 1 ? barrier.stop : Effect.void)
    const first = yield* instance(kv, name, job)
    const second = yield* instance(yield* newClient, name, job)
    yield* first.clock.advance("1 minute")
    yield* until("the first tick runs", Effect.sync(() => ticks.length === 1))
    yield* first.clock.advance("2 minutes")
    yield* second.clock.advance("3 minutes")
    const store = yield* Store
    yield* store.passTime("500 millis")
    assert.deepStrictEqual(ticks, ["00:01"])
    yield* barrier.letGo
    yield* until("the latest tick runs", Effect.sync(() => ticks.length === 2))
    assert.deepStrictEqual(ticks, ["00:01", "00:03"])
  }),

  ...(["latest", "all", "skip"] as const).map((missed) =>
    waitingTest(`ticks that were missed in an outage are caught up by the policy ${missed}`, function*() {
      const name = `run-once/missed-${missed}`
      const cut = faults.make()
      const { run, ticks } = recorder()
      const client = yield* faults.newClientWith(cut)
      const { clock } = yield* instance(client, name, run, { missed })
      cut.before = (call) => call.kind === "execute" ? faults.unavailable : Effect.void
      for (let i = 0; i < 3; i++) yield* clock.advance("1 minute")
      yield* clock.advance("30 seconds")
      yield* until("a start was refused", Effect.sync(() => missed === "skip" || cut.calls.some(faults.isEntry)))
      const store = yield* Store
      yield* store.passTime("200 millis")
      assert.deepStrictEqual(ticks, [], "without the store nothing runs")
      cut.before = () => Effect.void
      const late = { latest: ["00:03"], all: ["00:01", "00:02", "00:03"], skip: [] }[missed]
      yield* until("the missed ticks have run", Effect.sync(() => ticks.length >= late.length))
      yield* until("it waits for the next tick", Effect.sync(() => clock.sleepers > 0))
      yield* clock.advance("30 seconds")
      yield* until("the next tick has run", Effect.sync(() => ticks.length > late.length))
      assert.deepStrictEqual(ticks, [...late, "00:04"])
    })
  ),

  ...(["retry", "skip"] as const).map((onCrash) =>
    waitingTest(`a tick whose runner crashes is run again only by the policy retry: ${onCrash}`, function*(kv) {
      const name = `run-once/crash-${onCrash}`
      const attempts: Array<string> = []
      const crashing = yield* newClient
      let lease = 0n
      const first = yield* instance(crashing, name, (tick) =>
        Effect.gen(function*() {
          attempts.push(`${minuteOf(tick)} ${tick.attempt}`)
          lease = Option.getOrThrow((yield* Effect.orDie(entryOf(kv, `${name}/once/run`))).lease)
          return yield* Effect.never
        }), { onCrash })
      const second = yield* instance(
        kv,
        name,
        (tick) => Effect.sync(() => attempts.push(`${minuteOf(tick)} ${tick.attempt}`)),
        { onCrash }
      )
      yield* first.clock.advance("1 minute")
      yield* until("it runs", Effect.sync(() => lease !== 0n))
      yield* backendOf(kv).leaseRevoke(lease)
      yield* Fiber.interrupt(first.fiber)
      if (onCrash === "retry") yield* until("it runs again", Effect.sync(() => attempts.length === 2))
      yield* second.clock.advance("2 minutes")
      yield* until("the next tick runs", Effect.sync(() => attempts.some((each) => each.startsWith("00:02"))))
      assert.deepStrictEqual(
        attempts,
        onCrash === "retry" ? ["00:01 1", "00:01 2", "00:02 1"] : ["00:01 1", "00:02 1"]
      )
    })
  ),

  waitingTest("a cron continues after its watches have failed and could not be opened again", function*(kv) {
    const name = "run-once/watches-fail"
    const faulty = faults.make()
    const compacted = yield* Deferred.make<never, KvError.KvError>()
    const backend = faults.wrap(faulty)(backendOf(yield* newClient))
    let isCompacted = false
    const client = yield* Kv.make({
      ...backend,
      watch: (request) =>
        Effect.map(backend.watch(request), (watcher) => ({
          ...watcher,
          take: isCompacted ? watcher.take : Effect.raceFirst(watcher.take, Deferred.await(compacted))
        }))
    })
    const { run, ticks } = recorder()
    const { clock } = yield* instance(client, name, run)
    let rejected = 0
    faulty.before = (call) => {
      if (call.op?._tag !== "Range") return Effect.void
      rejected++
      return KvError.fail(new KvError.Unauthenticated({ message: "the password is being changed" }))
    }
    isCompacted = true
    yield* Deferred.fail(
      compacted,
      KvError.make(new KvError.Compacted({ compactRevision: Option.none() }))
    )
    yield* until("reads are rejected", Effect.sync(() => rejected >= 2))
    faulty.before = () => Effect.void
    yield* until(
      "it runs the next tick",
      Effect.gen(function*() {
        yield* clock.advance("1 minute")
        return ticks.length > 0
      })
    )
    assert.deepStrictEqual((yield* statusOf(kv, name))?.attempts, 1)
  }),

  waitingTest("a restart after a tick was done does not run it again", function*(kv) {
    const name = "run-once/restart"
    const { run, ticks } = recorder()
    const first = yield* instance(kv, name, run)
    yield* first.clock.advance("1 minute")
    yield* until("it has run", Effect.sync(() => ticks.length === 1))
    yield* untilState(kv, name, "Done")
    yield* Fiber.interrupt(first.fiber)
    const second = yield* instance(yield* newClient, name, run, { clock: new HandClock(midnight + 60_000) })
    yield* second.clock.advance("59 seconds")
    yield* until("it waits for the next tick", Effect.sync(() => second.clock.sleepers > 0))
    assert.deepStrictEqual(ticks, ["00:01"])
    yield* second.clock.advance("1 second")
    yield* until("the next tick runs", Effect.sync(() => ticks.length === 2))
    assert.deepStrictEqual(ticks, ["00:01", "00:02"])
  }),

  waitingTest("a tick that fails is recorded as failed and not repeated, and the next one runs", function*(kv) {
    const name = "run-once/fails"
    let runs = 0
    const { clock } = yield* instance(
      kv,
      name,
      () => Effect.suspend(() => runs++ === 0 ? Effect.fail("own") : Effect.void)
    )
    yield* clock.advance("1 minute")
    yield* untilState(kv, name, "Failed")
    yield* until("it waits for the next tick", Effect.sync(() => clock.sleepers > 0))
    assert.strictEqual(runs, 1)
    yield* clock.advance("1 minute")
    yield* untilState(kv, name, "Done")
    assert.strictEqual(runs, 2)
  }),

  waitingTest(
    "a runner that is paused beyond its lease is rejected by the store once the second attempt has started",
    function*(kv) {
      const name = "run-once/paused"
      const cut = faults.make()
      const paused = yield* faults.newClientWith(cut)
      const barrier = yield* faults.barrier
      const reasons: Array<string> = []
      const first = yield* Effect.forkScoped(
        on(paused)(RunOnce.forKey(name, () =>
          Effect.uninterruptible(Effect.gen(function*() {
            yield* barrier.stop
            reasons.push((yield* Effect.orDie(reasonOf(paused.put(`${name}.by`, "first"))))._tag)
          })), { ttl: "2 seconds" }))
      )
      yield* promptly("it runs", barrier.reached)
      const token = (yield* entryOf(kv, `${name}/once/run`)).createRevision
      cut.before = (call) => call.kind === "leaseKeepAlive" ? Effect.never : Effect.void
      const second = yield* Effect.forkScoped(
        on(kv)(RunOnce.forKey(name, (run) => Effect.as(kv.put(`${name}.by`, "second"), run)))
      )
      const exit = yield* exitOf("the second attempt", second)
      const run = Option.getOrThrow(Exit.isSuccess(exit) ? exit.value : Option.none())
      assert.strictEqual(run.attempt, 2)
      assert.isTrue(run.token > token)
      yield* barrier.letGo
      failedWith(yield* exitOf("the first ends", first), "LockLost")
      assert.deepStrictEqual(reasons, ["LockLost"])
      assert.strictEqual(yield* textOf(kv, `${name}.by`), "second")
    }
  ),

  waitingTest("a runner that cannot renew is interrupted, and its finalizers run, while its key exists", function*(kv) {
    const name = "run-once/cut-off"
    const cut = faults.make()
    const client = yield* faults.newClientWith(cut)
    let createRevision = 0n
    const ended = putWhether(
      kv,
      `${name}.ended`,
      () => Compare.createRevision(`${name}/once/run`, "=", createRevision)
    )
    const runner = yield* Effect.forkScoped(
      on(client)(RunOnce.forKey(
        name,
        () => Effect.onInterrupt(Effect.never, () => Fence.unfenced(Effect.orDie(ended))),
        { ttl: "3 seconds" }
      ))
    )
    yield* until("it runs", isRunning(kv, name))
    createRevision = (yield* entryOf(kv, `${name}/once/run`)).createRevision
    cut.before = (call) => call.kind === "leaseKeepAlive" ? faults.unavailable : Effect.void
    failedWith(yield* exitOf("the loss", runner), "LockLost")
    assert.strictEqual(yield* textOf(kv, `${name}.ended`), "true", "it ended before the store deleted its key")
  }),

  waitingTest("a run that lasts longer than maxHold is interrupted and has failed", function*(kv) {
    const name = "run-once/hangs"
    const runner = yield* Effect.forkScoped(
      on(kv)(RunOnce.forKey(name, () => Effect.never, { maxHold: "500 millis" }))
    )
    failedWith(yield* exitOf("the end", runner), "LockHoldExceeded")
    assert.deepStrictEqual([(yield* statusOf(kv, name))?.state, yield* isRunning(kv, name)], ["Failed", false])
  }),

  waitingTest("the outcome of a run that ends in an outage is recorded when the store is back", function*(kv) {
    const name = "run-once/recorded"
    const cut = faults.make()
    const barrier = yield* faults.barrier
    const runner = yield* Effect.forkScoped(
      on(yield* faults.newClientWith(cut))(RunOnce.forKey(name, () => barrier.stop, { ttl: "1 hour" }))
    )
    yield* promptly("it runs", barrier.reached)
    cut.before = (call) => call.kind === "execute" ? faults.unavailable : Effect.void
    yield* barrier.letGo
    const store = yield* Store
    yield* store.passTime("2 seconds")
    assert.strictEqual(runner.pollUnsafe(), undefined, "it does not succeed before that is recorded")
    cut.before = () => Effect.void
    assert.isTrue(Exit.isSuccess(yield* exitOf("the end", runner)))
    assert.strictEqual((yield* statusOf(kv, name))?.state, "Done")
  }),

  waitingTest("a run whose key was deleted before its outcome was recorded does not count as done", function*(kv) {
    const name = "run-once/not-recorded"
    const lossy = faults.make()
    const client = yield* faults.newClientWith(lossy)
    let isFirst = true
    // The outcome is not applied, but its runner cannot know that.
    lossy.before = (call) => {
      if (!faults.isRemoval(call) || !isFirst) return Effect.void
      isFirst = false
      return Effect.andThen(Effect.orDie(kv.delete(`${name}/once/run`)), faults.lostResponse)
    }
    const run = yield* Effect.forkScoped(on(client)(RunOnce.forKey(name, () => Effect.succeed("result"))))
    failedWith(yield* exitOf("it ends", run), "LockLost")
    assert.strictEqual((yield* statusOf(kv, name))?.state, "Crashed")
    const next = yield* Effect.forkScoped(on(kv)(RunOnce.forKey(name, () => Effect.succeed("again"))))
    assert.deepStrictEqual(yield* exitOf("the next call runs it", next), Exit.succeed(Option.some("again")))
    // The same with an outcome that is applied.
    isFirst = true
    lossy.before = () => Effect.void
    lossy.after = (call) => {
      if (!faults.isRemoval(call) || !isFirst) return Effect.void
      isFirst = false
      return faults.lostResponse
    }
    const done = yield* Effect.forkScoped(on(client)(RunOnce.forKey(`${name}/2`, () => Effect.succeed("result"))))
    assert.deepStrictEqual(yield* exitOf("it ends", done), Exit.succeed(Option.some("result")))
    assert.strictEqual((yield* statusOf(kv, `${name}/2`))?.state, "Done")
  }),

  waitingTest("an instance that starts while the store is down runs the tick that came due since", function*() {
    const name = "run-once/started-down"
    const store = yield* Store
    const cut = faults.make()
    const client = yield* faults.newClientWith(cut)
    cut.before = () => faults.unavailable
    const { run, ticks } = recorder()
    const clock = new HandClock(midnight + 30_000)
    yield* Effect.forkScoped(on(client)(by(clock)(RunOnce.cron(name, everyMinute, run))))
    yield* until("it was refused", Effect.sync(() => cut.calls.length > 0))
    yield* clock.advance("1 minute")
    cut.before = () => Effect.void
    yield* store.passTime("1 second")
    yield* until("the tick runs", Effect.sync(() => ticks.length === 1))
    assert.deepStrictEqual(ticks, ["00:01"])
  })
])
