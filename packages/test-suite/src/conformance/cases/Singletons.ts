/**
 * Singletons: a program of which one instance runs at a time, among all processes.
 */
import * as Election from "@effect-kv/core/Election"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Schedule from "effect/Schedule"
import { chapter, newClient, Store, waitingTest, waitUntil } from "./Case.ts"
import { isVacant, token } from "./electing.ts"
import * as faults from "./faults.ts"
import { exitOf, failedWith, on, signalling, untilContenders } from "./locking.ts"

const leaseOfLeader = (kv: Kv.Kv, name: string) =>
  Effect.map(on(kv)(Election.leader(name)), (leader) => Option.getOrThrow(Option.getOrThrow(leader).lease))

export const cases = chapter("elections", [
  waitingTest("a singleton that ends gives the next instance its turn, and campaigns again", function*(kv) {
    const name = "singleton/turns"
    const runs: Array<string> = []
    const instance = (id: string, client: Kv.Kv) =>
      Effect.forkScoped(
        on(client)(Election.singleton(
          name,
          () => Effect.andThen(Effect.sync(() => runs.push(id)), Effect.sleep("2 seconds")),
          { value: id }
        ))
      )
    yield* instance("a", kv)
    yield* waitUntil("a runs", Effect.sync(() => runs.length === 1))
    yield* instance("b", yield* newClient)
    yield* untilContenders(kv, name, 2)
    yield* waitUntil("four runs", Effect.sync(() => runs.length >= 4))
    assert.deepStrictEqual(runs.slice(0, 4), ["a", "b", "a", "b"])
  }),

  waitingTest(
    "a singleton that fails or dies at once is tried again after a pause, and others get their turn",
    function*(kv) {
      const name = "singleton/fails"
      const store = yield* Store
      const warnings: Array<unknown> = []
      const logger = Logger.make<unknown, void>(({ fiber, logLevel }) => {
        if (logLevel === "Warn") warnings.push(fiber.getRef(References.CurrentLogAnnotations)["election"])
      })
      let failures = 0
      yield* Election.singleton(name, () => ++failures % 2 === 0 ? Effect.die("defect") : Effect.fail("own")).pipe(
        on(kv),
        Effect.provide(Logger.layer([logger])),
        Effect.forkScoped
      )
      yield* waitUntil("the first failure", Effect.sync(() => failures > 0))
      yield* store.passTime("4 seconds")
      assert.isAtLeast(failures, 3)
      assert.isAtMost(failures, 7, "there is a pause between the runs")
      yield* waitUntil("each is logged", Effect.sync(() => warnings.length >= 3))
      assert.deepStrictEqual([...new Set(warnings)], [name])
      const other = yield* Effect.forkScoped(on(yield* newClient)(Election.use(name, token)))
      assert.isTrue(Exit.isSuccess(yield* exitOf("the other leads", other)))
    }
  ),

  waitingTest("singletons all contend again after every loss, however often", function*(kv) {
    const name = "singleton/losses"
    const clients = [kv, yield* newClient, yield* newClient]
    let running = 0
    for (const [i, client] of clients.entries()) {
      yield* Election.singleton(
        name,
        () =>
          Effect.acquireUseRelease(
            Effect.sync(() => running++),
            () => Effect.never,
            () => Effect.sync(() => running--)
          ),
        { value: `${i}` }
      ).pipe(on(client), Effect.forkScoped)
    }
    const tokens: Array<bigint> = []
    for (let round = 0; round < 6; round++) {
      yield* waitUntil(
        "all contend and one runs",
        Effect.map(on(kv)(Election.candidates(name)), (all) => all.length === 3 && running === 1)
      )
      const leader = Option.getOrThrow(yield* on(kv)(Election.leader(name)))
      tokens.push(leader.token)
      if (round % 2 === 0) yield* backendOf(kv).leaseRevoke(yield* leaseOfLeader(kv, name))
      else yield* kv.delete(leader.key)
    }
    assert.deepStrictEqual(tokens, tokens.toSorted((a, b) => Number(a - b)))
    assert.strictEqual(new Set(tokens).size, 6)
    yield* waitUntil(
      "all contend again",
      Effect.map(on(kv)(Election.candidates(name)), (all) => all.length === 3 && running === 1)
    )
  }),

  waitingTest("singletons all contend again after outages that are longer than their time to live", function*(kv) {
    const name = "singleton/outages"
    const store = yield* Store
    const running = new Set<number>()
    const cuts: Array<faults.Faults> = []
    for (let i = 0; i < 3; i++) {
      const cut = faults.make()
      cuts.push(cut)
      yield* Election.singleton(
        name,
        () =>
          Effect.acquireUseRelease(
            Effect.sync(() => running.add(i)),
            () => Effect.never,
            () => Effect.sync(() => running.delete(i))
          ),
        { value: `${i}`, ttl: "2 seconds" }
      ).pipe(on(yield* faults.newClientWith(cut)), Effect.forkScoped)
    }
    const oneRuns = waitUntil(
      "all contend and one runs",
      Effect.map(
        on(kv)(Election.candidates(name)),
        (all) => all.length === 3 && running.size === 1 && running.has(Number(all[0]!.value))
      )
    )
    for (let round = 0; round < 4; round++) {
      yield* oneRuns
      for (const cut of cuts) cut.before = () => Effect.andThen(Effect.sleep("50 millis"), faults.unavailable)
      yield* store.passTime("3500 millis")
      assert.strictEqual(running.size, 0, "no run outlives its lease")
      for (const cut of cuts) cut.before = () => Effect.void
    }
    yield* oneRuns
  }),

  waitingTest("a singleton that is lost several times in quick succession campaigns again", function*(kv) {
    const name = "singleton/quick-losses"
    const slow = faults.make()
    let running: bigint | undefined
    yield* Election.singleton(
      name,
      (leadership) =>
        Effect.acquireUseRelease(
          Effect.sync(() => running = leadership.token),
          () => Effect.never,
          () => Effect.sync(() => running = undefined)
        )
    ).pipe(on(yield* faults.newClientWith(slow)), Effect.forkScoped)
    const isLeading = Effect.map(
      on(kv)(Election.candidates(name)),
      (all) => all.length === 1 && all[0]!.token === running
    )
    for (let round = 0; round < 2; round++) {
      yield* waitUntil("it leads", isLeading)
      const entry = yield* faults.barrier
      slow.after = (call) => faults.isEntry(call) ? entry.stop : Effect.void
      const leader = Option.getOrThrow(yield* on(kv)(Election.leader(name)))
      yield* kv.delete(leader.key)
      // The client may have revoked the lease by then.
      yield* Effect.ignore(backendOf(kv).leaseRevoke(Option.getOrThrow(leader.lease)))
      yield* exitOf("it enters again", yield* Effect.forkScoped(entry.reached))
      // Its next key is gone before it knows that it leads.
      yield* kv.deleteRange(KeyRange.prefix(`${name}/`))
      slow.after = () => Effect.void
      yield* entry.letGo
    }
    yield* waitUntil("it leads again", isLeading)
  }),

  waitingTest("a singleton that is interrupted while it enters again leaves no key, and runs no more", function*(kv) {
    const name = "singleton/interrupted"
    const slow = faults.make()
    let runs = 0
    const singleton = yield* Election.singleton(name, () => Effect.andThen(Effect.sync(() => runs++), Effect.never))
      .pipe(
        on(yield* faults.newClientWith(slow)),
        Effect.forkScoped
      )
    yield* waitUntil("it runs", Effect.sync(() => runs === 1))
    const entry = yield* faults.barrier
    slow.after = (call) => faults.isEntry(call) ? entry.stop : Effect.void
    yield* kv.delete(Option.getOrThrow(yield* on(kv)(Election.leader(name))).key)
    yield* exitOf("it enters again", yield* Effect.forkScoped(entry.reached))
    const interruption = yield* Effect.forkScoped(Fiber.interrupt(singleton), { startImmediately: true })
    yield* entry.letGo
    yield* exitOf("it ends", interruption)
    yield* isVacant(kv, name)
    assert.strictEqual(runs, 1)
  }),

  waitingTest("a singleton ends with its schedule, and fails when its client is closed", function*(kv) {
    const name = "singleton/ends"
    let runs = 0
    yield* on(kv)(Election.singleton(name, () => Effect.sync(() => runs++), { schedule: Schedule.recurs(2) }))
    assert.strictEqual(runs, 3)
    yield* isVacant(kv, name)
    const closed = yield* Effect.scoped(Effect.gen(function*() {
      const client = yield* newClient
      const { body, started } = signalling(Effect.never)
      const fiber = yield* Effect.forkDetach(on(client)(Election.singleton(name, () => body)))
      yield* started
      return fiber
    }))
    assert.strictEqual(failedWith(yield* exitOf("the end", closed), "KvError").reason._tag, "Closed")
    yield* isVacant(kv, name)
  })
])
