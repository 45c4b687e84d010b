/**
 * Mutants of recipes that the checks of a round must find. Each makes the fault happen for certain: its clients wait for
 * each other, not for a moment that may be missed.
 */
import * as Fence from "@effect-kv/core/Fence"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Latch from "@effect-kv/core/Latch"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import { EtcdCluster, LockChecker, Recorder } from "@effect-kv/test-suite/verification"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Cron from "effect/Cron"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as Counters from "../src/Counters.ts"
import * as Notes from "../src/Notes.ts"
import * as Observers from "../src/Observers.ts"
import * as Recipes from "../src/Recipes.ts"
import * as Rounds from "../src/Round.ts"
import * as Views from "../src/Views.ts"
import * as accounts from "../src/work/accounts.ts"
import * as barriers from "../src/work/barriers.ts"
import * as collections from "../src/work/collections.ts"
import * as elections from "../src/work/elections.ts"
import * as latches from "../src/work/latches.ts"
import * as locks from "../src/work/locks.ts"
import * as members from "../src/work/members.ts"
import * as sequences from "../src/work/sequences.ts"
import * as settings from "../src/work/settings.ts"
import * as shared from "../src/work/shared.ts"
import * as singletons from "../src/work/singletons.ts"
import * as slots from "../src/work/slots.ts"
import * as steps from "../src/work/steps.ts"
import * as sums from "../src/work/sums.ts"
import * as ticks from "../src/work/ticks.ts"
import type { RecordedClient } from "../src/work/Worker.ts"
import {
  blind,
  elsewhere,
  gate,
  oneBehind,
  tripled,
  unconditional,
  withoutDeletes,
  withoutEntries,
  withoutValue,
  withoutWatch
} from "./mutants.ts"

const prefix = "r/"
const acquireTimeout = 30_000
const work = { hold: 0, increments: 1, byService: false, proclaims: false }

/** Two clients of an empty store, whose calls and changes are recorded. */
const begin = Effect.fnUntraced(function*(mutants: Pick<Rounds.Options, "mutateBackend" | "mutateWrite"> = {}) {
  const cluster = yield* EtcdCluster.EtcdCluster
  yield* cluster.etcdctl(["del", "", "--prefix"])
  const server = yield* cluster.watchFrom((yield* cluster.revision) + 1n)
  const recorder = yield* Recorder.make
  const notes = Notes.make(["c1", "c2"])
  const open = Effect.map(
    Effect.suspend(() => Layer.build(Layer.fresh(EtcdLayer.layer({ endpoints: cluster.endpoints })))),
    Context.get(Kv.Kv)
  )
  const client = Effect.fnUntraced(function*(name: string) {
    return yield* Rounds.record({ name, kv: yield* open, open }, recorder, notes, { prefix, ...mutants })
  })
  const c1 = yield* client("c1")
  const c2 = yield* client("c2")
  /** Everything that the checks of a round say about the recipes. */
  const found = Effect.gen(function*() {
    const history = yield* recorder.history
    const changes = yield* server.upTo(yield* cluster.revision)
    return [
      ...Counters.find(changes, prefix, history.holdings),
      ...Recipes.find(changes, prefix, history, notes),
      ...LockChecker.check(history, { changes, permits: Counters.permitsOf(prefix) }).map(({ kind }) => kind)
    ].join("\n")
  })
  return {
    c1,
    c2,
    notes,
    recorder,
    found,
    changes: Effect.flatMap(cluster.revision, (revision) => server.upTo(revision))
  }
})

const blindClient = (queue: string) => (client: string, backend: KvBackend): KvBackend =>
  client === "c2" ? blind(backend, queue) : backend

/** Revokes the lease of the only key of a queue, as the harness does behind its holder's back. */
const evict = Effect.fnUntraced(function*({ kv }: RecordedClient, queue: string) {
  const { entries: [key] } = yield* kv.range(KeyRange.prefix(queue))
  yield* backendOf(kv).leaseRevoke(Option.getOrThrow(key!.lease))
})

layer(EtcdCluster.layer(), { excludeTestServices: true, timeout: "60 seconds" })("the checks of a round find", (it) => {
  /** A leader loses its leadership between its read and its write, and another one leads before it writes. */
  const lateWrite = Effect.fnUntraced(function*(isFenced: boolean) {
    const { begun, pass, release } = yield* gate
    let writes = 0
    const round = yield* begin({
      mutateWrite: (write) =>
        Effect.suspend(() => {
          if (writes++ > 0) return write
          const late = Effect.uninterruptible(Effect.andThen(pass, write))
          return isFenced ? late : Fence.unfenced(late)
        })
    })
    const { c1, c2, found } = round
    const first = yield* Effect.forkScoped(
      Effect.exit(elections.withLeadership(c1, { ...work, byService: true }, acquireTimeout))
    )
    yield* begun
    yield* evict(c2, `${elections.electionName(prefix)}/`)
    yield* elections.withLeadership(c2, work, acquireTimeout)
    yield* release
    yield* Fiber.join(first)
    return yield* found
  })

  it.effect("a leader whose writes are not fenced", () =>
    Effect.gen(function*() {
      assert.match(yield* lateWrite(false), /written without the lock: .*election\/0-counter/)
    }))

  it.effect("nothing wrong with one whose writes are fenced", () =>
    Effect.gen(function*() {
      assert.notMatch(yield* lateWrite(true), /written without the lock|went from/)
    }))

  it.effect("a second leader, which does not see the first", () =>
    Effect.gen(function*() {
      const { begun, pass, release } = yield* gate
      const { c1, c2, found } = yield* begin({
        mutateBackend: blindClient(`${elections.electionName(prefix)}/`),
        mutateWrite: (write) => Effect.andThen(pass, write)
      })
      const first = yield* Effect.forkScoped(
        elections.withLeadership(c1, { ...work, byService: true }, acquireTimeout)
      )
      yield* begun
      yield* elections.withLeadership(c2, work, acquireTimeout)
      yield* release
      yield* Fiber.join(first)
      assert.match(yield* found, /written without the lock: .*election\/0-counter/)
    }))

  it.effect("an observer that misses a leader", () =>
    Effect.gen(function*() {
      const { c1, c2, changes, notes, recorder } = yield* begin({
        mutateBackend: (client, backend) => client === "c1" ? backend : withoutValue(backend, "hidden")
      })
      const observers = [c1, c2]
      for (const client of observers) {
        yield* Effect.forkScoped(elections.observing(client, notes.leaders[client.name]!))
      }
      const haveSeen = (count: number) =>
        Effect.repeat(Effect.sleep("5 millis"), { until: () => notes.leaders["c1"]!.length >= count })
      yield* Effect.repeat(Effect.sleep("5 millis"), {
        until: () => observers.every(({ name }) => notes.leaders[name]!.length > 0)
      })
      yield* elections.leadLast(c1, "hidden")
      yield* haveSeen(3)
      yield* elections.leadLast(c2, "last")
      yield* Effect.repeat(Effect.sleep("5 millis"), {
        until: () =>
          observers.every(({ name }) => {
            const seen = notes.leaders[name]!
            return seen.at(-1)?.revision === 0n && seen.at(-2)?.value === "last"
          })
      })
      const history = yield* recorder.history
      const all = yield* changes
      const find = (name: string) =>
        Observers.find(name, notes.leaders[name]!, all, history, elections.electionName(prefix)).join()
      assert.strictEqual(find("c1"), "")
      assert.match(find("c2"), /saw the leader "last" .* after no leader, which is not the order of the store/)
    }))

  it.effect("more permits in use than there are, because a client does not see their holders", () =>
    Effect.gen(function*() {
      const { begun, pass, release } = yield* gate
      const { c1, c2, found } = yield* begin({
        mutateBackend: blindClient(`${shared.semaphoreName(prefix)}/permits/`)
      })
      const first = yield* Effect.forkScoped(shared.withPermits(c1, shared.permits, pass, acquireTimeout))
      yield* begun
      yield* shared.withPermits(c2, 1, Effect.void, acquireTimeout)
      yield* release
      yield* Fiber.join(first)
      const violations = yield* found
      assert.match(violations, /written without the lock: .*semaphore\/0-log/)
      assert.match(violations, /TooManyPermits/)
    }))

  it.effect("a writer beside a reader, which it does not see", () =>
    Effect.gen(function*() {
      const { begun, pass, release } = yield* gate
      const { c1, c2, found } = yield* begin({ mutateBackend: blindClient(`${shared.rwLockName(prefix)}/write/`) })
      const first = yield* Effect.forkScoped(shared.withReadLock(c1, pass, acquireTimeout))
      yield* begun
      yield* shared.withWriteLock(c2, work, acquireTimeout)
      yield* release
      yield* Fiber.join(first)
      const violations = yield* found
      assert.match(violations, /written without the lock: .*rw-lock\/0-counter/)
      assert.match(violations, /a reader of .* saw .* when the count was 1/)
      assert.match(violations, /OverlappingHolders/)
    }))

  it.effect("a cron that claims no tick, and does not see that it was run", () =>
    Effect.gen(function*() {
      const job = ticks.jobName(prefix)
      const { c2, found } = yield* begin({
        mutateBackend: (_, backend) => withoutWatch(unconditional(backend, `${job}/once/run`), `${job}/once/last`)
      })
      yield* c2.kv.put(
        `${job}/once/last`,
        JSON.stringify({ tick: "2000-01-01T00:00:00.000Z", state: "Waiting", by: "", attempts: 0 })
      )
      const yearly = Cron.parseUnsafe("0 0 0 1 1 *", "UTC")
      const cron = yield* Effect.forkScoped(ticks.cron(c2, yearly, work))
      yield* Effect.repeat(c2.kv.get(locks.counterOf(ticks.jobName(prefix))), {
        until: Option.exists((value) => locks.countOf(value) >= 2),
        schedule: Schedule.spaced("20 millis")
      })
      yield* Fiber.interrupt(cron)
      assert.match(yield* found, /TickTwice/)
    }))

  it.effect("a transfer that does not notice another one between its reads and its writes", () =>
    Effect.gen(function*() {
      const { begun, pass, release } = yield* gate
      const { c1, c2, found } = yield* begin({
        mutateBackend: (_, backend) => unconditional(backend, accounts.accountOf(prefix, 0))
      })
      const [from, to, other] = accounts.accountsOf(prefix)
      const first = yield* Effect.forkScoped(accounts.move(c1, { from: from!, to: to!, amount: 10 }, pass))
      yield* begun
      yield* accounts.move(c2, { from: from!, to: other!, amount: 5 }, Effect.void)
      yield* release
      yield* Fiber.join(first)
      assert.match(yield* found, /the accounts hold 405 at revision/)
    }))

  it.effect("an addition that counts twice", () =>
    Effect.gen(function*() {
      const folded = `${sums.sumName(prefix)}/counter/folded`
      const { c1, found } = yield* begin({ mutateBackend: (_, backend) => withoutDeletes(backend, folded) })
      yield* sums.adding(c1, [3, 4], Effect.void)
      assert.match(yield* found, /is 14; 7 was added, and the outcome of another 0 is unknown/)
    }))

  it.effect("an addition that was lost", () =>
    Effect.gen(function*() {
      const { c1, found } = yield* begin({
        mutateBackend: (_, backend) => elsewhere(backend, `${sums.sumName(prefix)}/counter/folded`)
      })
      yield* sums.adding(c1, [3, 4], Effect.void)
      assert.match(yield* found, /the counter .* went from 7 to 0/)
    }))

  it.effect("a former owner of a slot that still uses it", () =>
    Effect.gen(function*() {
      const { begun, pass, release } = yield* gate
      const { c1, c2, found } = yield* begin({
        mutateWrite: (write) => Fence.unfenced(Effect.uninterruptible(Effect.andThen(pass, write)))
      })
      const [name] = slots.slotNames(prefix)
      const use = { hold: 0, times: 1 }
      const first = yield* Effect.forkScoped(
        Effect.exit(slots.using(c1, name, { ...use, byService: true }, acquireTimeout))
      )
      yield* begun
      yield* evict(c2, `${name}/slots/`)
      yield* slots.using(c2, name, { ...use, byService: false }, acquireTimeout)
      yield* release
      yield* Fiber.join(first)
      assert.match(
        yield* found,
        /the slot r\/slot\/0\/slots\/0 was used with token \d+ at revision \d+, when it was free/
      )
    }))

  it.effect("two owners of a slot, because a client takes it without looking", () =>
    Effect.gen(function*() {
      const { begun, pass, release } = yield* gate
      const [name] = slots.slotNames(prefix)
      const { c1, c2, found } = yield* begin({
        mutateBackend: (client, backend) =>
          client === "c1" ? backend : unconditional(withoutEntries(backend, `${name}/slots/`), `${name}/slots/`),
        mutateWrite: (write) => Effect.andThen(pass, write)
      })
      const use = { hold: 0, times: 1 }
      const first = yield* Effect.forkScoped(
        Effect.exit(slots.using(c1, name, { ...use, byService: true }, acquireTimeout))
      )
      yield* begun
      // Its write is rejected, because the key has the create revision of the first owner.
      yield* Effect.exit(slots.using(c2, name, { ...use, byService: false }, acquireTimeout))
      yield* release
      yield* Fiber.join(first)
      assert.match(yield* found, /the slot r\/slot\/0\/slots\/0 was taken at revision \d+, when it had an owner/)
    }))

  it.effect("a member that goes back to an earlier value, and one whose value was lost", () =>
    Effect.gen(function*() {
      const { c1, c2, found, notes } = yield* begin({
        mutateBackend: (client, backend) =>
          client === "c1" ? backend : elsewhere(backend, `${members.groupName(prefix)}/`)
      })
      const rejoin = (client: RecordedClient, updates: number) =>
        Effect.gen(function*() {
          const { pass, begun } = yield* gate
          let left = updates
          const fiber = yield* Effect.forkScoped(
            members.resident(client, Effect.suspend(() => left-- > 0 ? Effect.void : pass))
          )
          yield* begun
          return fiber
        })
      const first = yield* rejoin(c1, 1)
      yield* c2.kv.put(members.memberKey(prefix, "c1"), JSON.stringify(notes.members["c1"]!.values[0]))
      yield* Fiber.interrupt(first)
      const second = yield* rejoin(c2, 0)
      yield* Fiber.interrupt(second)
      const violations = yield* found
      assert.match(violations, /the member r\/members\/c1 went from "c1#\d+" to "c1#\d+"/)
      assert.match(violations, /the last value of r\/members\/c2 is an unknown value, although/)
    }))

  it.effect("a waiter that passes a latch before enough have arrived", () =>
    Effect.gen(function*() {
      const name = latches.latchName(prefix)
      const { c1, c2, found } = yield* begin({
        mutateBackend: (client, backend) => client === "c1" ? backend : tripled(backend, `${name}/latch/0/p:`)
      })
      yield* Effect.provideService(Latch.countDown(name, { id: "a" }), Kv.Kv, c1.kv)
      yield* latches.waiting(c2, acquireTimeout)
      assert.match(yield* found, /c2 passed the latch r\/latch\/0 between .*, when it was not open/)
    }))

  it.effect("a waiter that misses that a latch opened", () =>
    Effect.gen(function*() {
      const { c1, c2, found, recorder } = yield* begin({
        mutateBackend: (client, backend) =>
          client === "c1" ? backend : withoutWatch(backend, latches.lastLatchName(prefix))
      })
      const released = yield* Effect.forkScoped(latches.lastWait(c1))
      yield* Effect.forkScoped(latches.lastWait(c2))
      yield* Effect.repeat(recorder.history, {
        until: (history) => [c1, c2].every((client) => latches.isLastWaiting(history, client)),
        schedule: Schedule.spaced("20 millis")
      })
      yield* latches.openLast(c1)
      yield* Fiber.join(released)
      assert.strictEqual(yield* found, "c2 was waiting for the latch r/latch/last when it opened, and was not released")
    }))

  it.effect("a barrier that opens before all have entered", () =>
    Effect.gen(function*() {
      const { c2, found } = yield* begin({
        mutateBackend: (_, backend) => tripled(backend, `${barriers.barrierName(prefix)}/barrier/0/p:`)
      })
      yield* barriers.entering(c2, Effect.void)
      assert.match(yield* found, /the round 0 of .* opened at revision \d+ with 1 of 3 participants/)
    }))

  it.effect("numbers that are given out twice", () =>
    Effect.gen(function*() {
      const name = sequences.sequenceName(prefix)
      const reserved = sequences.reservedOf(name)
      const { c1, c2, found } = yield* begin({
        mutateBackend: (client, backend) =>
          client === "c1"
            ? backend
            : withoutEntries(unconditional(oneBehind(backend, sequences.lastOf(name)), reserved), reserved)
      })
      for (const client of [c1, c2]) yield* sequences.number(client)
      for (const client of [c1, c2]) yield* sequences.dense(client, 1, 1)
      const violations = yield* found
      assert.match(violations, /the number \d+ was given out 2 times/)
      assert.match(violations, /the dense number 1 was given out 2 times/)
    }))

  it.effect("a step that is done again, by a client that does not see that it was", () =>
    Effect.gen(function*() {
      const key = steps.stepKey(prefix, 0)
      const { c1, c2, found } = yield* begin({
        mutateBackend: (client, backend) =>
          client === "c1"
            ? backend
            : withoutWatch(withoutEntries(unconditional(backend, steps.runOf(key)), steps.recordOf(key)), key)
      })
      for (const client of [c1, c2]) yield* steps.doingStep(client, { hold: 0, byService: false, fails: false }, 0)
      const violations = yield* found
      assert.match(violations, /TickTwice/)
      assert.match(violations, /2 calls have done r\/step\/0/)
    }))

  it.effect("a step whose writes are not fenced", () =>
    Effect.gen(function*() {
      const { begun, pass, release } = yield* gate
      const { c1, c2, found } = yield* begin({
        mutateWrite: (write) => Fence.unfenced(Effect.uninterruptible(Effect.andThen(pass, write)))
      })
      const once = { hold: 0, fails: false }
      const first = yield* Effect.forkScoped(Effect.exit(steps.doingStep(c1, { ...once, byService: true })))
      yield* begun
      yield* evict(c2, steps.runOf(steps.stepKey(prefix, 0)))
      yield* steps.doingStep(c2, { ...once, byService: false })
      yield* release
      yield* Fiber.join(first)
      assert.match(
        yield* found,
        /step-result\/0 was written with token \d+ at revision \d+, when no run was in progress/
      )
    }))

  it.effect("a second instance of a singleton, which does not see the first", () =>
    Effect.gen(function*() {
      const { begun, pass, release } = yield* gate
      const name = singletons.singletonName(prefix)
      const { c1, c2, found } = yield* begin({
        mutateBackend: blindClient(`${name}/`),
        mutateWrite: (write) => Effect.andThen(pass, write)
      })
      const first = yield* Effect.forkScoped(singletons.singleton(c1, { ...work, byService: true }))
      yield* begun
      const second = yield* Effect.forkScoped(singletons.singleton(c2, work))
      yield* Effect.repeat(c2.kv.get(locks.counterOf(name)), {
        until: Option.isSome,
        schedule: Schedule.spaced("20 millis")
      })
      yield* release
      yield* Fiber.interruptAll([first, second])
      assert.match(yield* found, /written without the lock: .*singleton\/0-counter/)
    }))

  it.effect("an update of a typed value that overwrites another, and a view that misses one", () =>
    Effect.gen(function*() {
      const users = collections.collectionPrefix(prefix)
      const { c1, c2, changes, found } = yield* begin({
        mutateBackend: (client, backend) =>
          client === "c1"
            ? backend
            : withoutValue(withoutEntries(unconditional(backend, `${users}0`), `${users}0`), "c2#")
      })
      const view = yield* collections.view(c2)
      for (const client of [c1, c2]) yield* collections.increment(client, "0")
      yield* collections.increment(c1, "1")
      const seen = yield* view.waitUntil(({ items }) => items.length === 2)
      assert.match(yield* found, /the user r\/users\/0 went from 1 to 1/)
      assert.match(
        Views.wrongUsers("c2", [seen], yield* changes, users).join(),
        /the view of users of c2 at revision \d+ is wrong in r\/users\/0/
      )
    }))

  /** The client `c2` has live settings while both clients change one. What is wrong with them. */
  const settingsOf = Effect.fnUntraced(function*(mutateBackend: NonNullable<Rounds.Options["mutateBackend"]>) {
    const ofSettings = settings.settingsPrefix(prefix)
    const { c1, c2, changes } = yield* begin({ mutateBackend })
    yield* settings.writeGood(c1)
    const live = yield* settings.live(c2)
    yield* c1.kv.put(`${ofSettings}a`, yield* c1.recorder.value("c1"))
    const { revision } = yield* c1.kv.put(`${ofSettings}b`, yield* c2.recorder.value("c2"))
    const seen = yield* live.states.pipe(Stream.filter((state) => state.revision >= revision), Stream.runHead)
    return Views.wrongSettings("c2", [Option.getOrThrow(seen)], yield* changes, ofSettings).join()
  })

  it.effect("live settings that mix two revisions", () =>
    Effect.gen(function*() {
      const wrong = yield* settingsOf((client, backend) => client === "c2" ? withoutValue(backend, "c1#") : backend)
      assert.match(wrong, /the settings of c2 at revision \d+ are c1#\d+, c2#\d+ instead of c1#\d+, c2#\d+/)
    }))

  it.effect("nothing wrong with live settings that follow", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* settingsOf((_, backend) => backend), "")
    }))
})
