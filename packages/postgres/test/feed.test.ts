/**
 * When the feed of a client reads the log, on virtual time and with notifications that are late, lost or forged.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type { Watcher } from "@effect-kv/core/Watch"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { WatchState } from "../src/internal/watch/watchState.ts"
import * as scriptedStore from "./support/scriptedStore.ts"
import { settled } from "./support/scriptedStore.ts"

/** How many random runs there are. */
const seeds = 40

const adjust = (millis: number) => Effect.andThen(TestClock.adjust(millis), settled)

/** A store whose feed runs, because of a watch of the keys `watched/*`. */
const running = Effect.gen(function*() {
  const store = yield* scriptedStore.make()
  const watcher = yield* store.open(KeyRange.prefix("watched/"))
  yield* settled
  // The feed has just begun, so the watch reads the log once more.
  const taken = yield* Effect.forkChild(watcher.take)
  yield* settled
  store.statements()
  return { ...store, taken }
})

/** What a take has returned: the revisions and keys. */
const eventsOf = (fiber: Fiber.Fiber<Effect.Success<Watcher["take"]>, unknown>) =>
  Effect.sync(() => {
    const exit = fiber.pollUnsafe()
    return exit !== undefined && Exit.isSuccess(exit)
      ? exit.value.flatMap(({ events }) => events.map(({ key, revision }) => `${revision} ${key}`))
      : exit
  })

const taking = Effect.fnUntraced(function*(watcher: Watcher) {
  const fiber = yield* Effect.forkChild(watcher.take)
  yield* settled
  return fiber
})

describe("the feed of a client, while nothing is written", () => {
  it.effect("makes no statement as long as the revision of the store is reported to it", () =>
    Effect.gen(function*() {
      const { feed, statements } = yield* running
      for (let i = 0; i < 20; i++) {
        yield* feed.noticed(10n)
        yield* adjust(5000)
      }
      assert.deepStrictEqual(statements(), [])
    }))

  it.effect("reads the log itself if the revision of the store is not reported to it", () =>
    Effect.gen(function*() {
      const { feed, statements } = yield* running
      yield* adjust(7400)
      assert.deepStrictEqual(statements(), [])
      yield* adjust(100)
      assert.deepStrictEqual(statements(), ["changes"])
      yield* adjust(5000)
      yield* feed.noticed(10n)
      yield* adjust(5000)
      assert.deepStrictEqual(statements(), [])
      yield* adjust(2500)
      assert.deepStrictEqual(statements(), ["changes"])
    }))

  it.effect("reads every 200 milliseconds if it cannot listen, whatever is reported to it", () =>
    Effect.gen(function*() {
      const store = yield* scriptedStore.make({ canListen: false })
      yield* store.open(KeyRange.key("a"))
      yield* settled
      store.statements()
      yield* store.feed.noticed(10n)
      yield* adjust(1000)
      assert.deepStrictEqual(store.statements(), Array.from({ length: 5 }, () => "changes"))
    }))
})

describe("the feed of a client, when notifications are wrong", () => {
  it.effect("delivers an event whose notification was lost once the revision is reported, at most 5 s after a read", () =>
    Effect.gen(function*() {
      const { feed, statements, taken, write } = yield* running
      yield* adjust(1000)
      const revision = write("watched/a")
      yield* feed.noticed(revision)
      yield* adjust(3900)
      assert.deepStrictEqual(statements(), [])
      yield* adjust(100)
      assert.deepStrictEqual(yield* eventsOf(taken), [`${revision} watched/a`])
      assert.deepStrictEqual(statements(), ["changes"])
    }))

  it.effect("delivers an event at once when it is reported, if it did not read in the 5 s before", () =>
    Effect.gen(function*() {
      const { feed, taken, write } = yield* running
      yield* adjust(6000)
      const revision = write("watched/a")
      yield* feed.noticed(revision)
      yield* settled
      assert.deepStrictEqual(yield* eventsOf(taken), [`${revision} watched/a`])
    }))

  it.effect("delivers an event that a forged notification hid, even among notifications of other keys", () =>
    Effect.gen(function*() {
      const { feed, notify, taken, write } = yield* running
      yield* notify(11n, "made/up")
      yield* notify(write("watched/a"), "watched/a")
      assert.isUndefined(yield* eventsOf(taken))
      for (let i = 0; i < 49; i++) {
        const revision = write("other")
        yield* feed.noticed(revision)
        yield* notify(revision, "other")
        yield* adjust(100)
      }
      assert.isUndefined(yield* eventsOf(taken))
      yield* adjust(100)
      assert.deepStrictEqual(yield* eventsOf(taken), ["11 watched/a"])
    }))

  it.effect("reads once in 5 s while others write, however often the revision is reported", () =>
    Effect.gen(function*() {
      const { feed, notify, statements, write } = yield* running
      for (let i = 0; i < 100; i++) {
        const revision = write("other")
        yield* notify(revision, "other")
        yield* feed.noticed(revision)
        yield* adjust(200)
      }
      assert.deepStrictEqual(statements(), ["changes", "changes", "changes", "changes"])
    }))
})

describe("a notification of a revision that the store does not have", () => {
  it.effect("costs a watch that is opened then a few statements, not one after the other", () =>
    Effect.gen(function*() {
      const { notify, open, statements, write } = yield* running
      yield* notify(11n, "made/up")
      yield* notify(12n, "made/up")
      const watcher = yield* open(KeyRange.key("k"))
      const taken = yield* taking(watcher)
      yield* settled
      assert.isAtMost(statements().length, 2)
      yield* settled
      assert.deepStrictEqual(statements(), [])
      const revision = write("k")
      yield* notify(revision, "k")
      assert.deepStrictEqual(yield* eventsOf(taken), [`${revision} k`])
    }))
})

describe("a clock of the machine that is set back", () => {
  /** Runs a test with a clock that it can set, as opposed to the time that passes. */
  const settable = <A, E, R>(f: (setBack: (millis: number) => void) => Effect.Effect<A, E, R>) =>
    Effect.clockWith((clock) => {
      let back = 0
      const currentTimeMillisUnsafe = () => clock.currentTimeMillisUnsafe() - back
      const set: Clock.Clock = {
        ...clock,
        currentTimeMillisUnsafe,
        currentTimeMillis: Effect.sync(currentTimeMillisUnsafe)
      }
      return Effect.provideService(
        f((millis) => {
          back = millis
        }),
        Clock.Clock,
        set
      )
    })

  it.effect("does not delay an event whose notification was lost", () =>
    settable(Effect.fnUntraced(function*(setBack) {
      const { feed, taken, write } = yield* running
      yield* adjust(1000)
      setBack(3_600_000)
      const revision = write("watched/a")
      yield* feed.noticed(revision)
      yield* adjust(5000)
      assert.deepStrictEqual(yield* eventsOf(taken), [`${revision} watched/a`])
    })))

  it.effect("does not delay the reads of a feed that hears no notifications", () =>
    settable(Effect.fnUntraced(function*(setBack) {
      const { open, statements } = yield* scriptedStore.make({ canListen: true, isHeard: false })
      yield* open(KeyRange.key("k"))
      yield* adjust(1000)
      setBack(3_600_000)
      yield* adjust(200)
      statements()
      yield* adjust(1000)
      assert.deepStrictEqual(statements(), Array.from({ length: 5 }, () => "changes"))
    })))
})

describe("a read of the feed", () => {
  it.effect("is of the keys between those of the watches, in whatever order they were opened", () =>
    Effect.gen(function*() {
      const { eventsRead, notify, open, statements, write } = yield* running
      for (const keys of [["m", "n"], ["n", "m"], ["x", "y", "z"], ["z", "y", "x"]]) {
        const scope = yield* Scope.make()
        const fibers = yield* Effect.forEach(keys, (key) =>
          Effect.flatMap(
            Effect.flatMap(Scope.provide(open(KeyRange.key(key)), scope), ({ take }) => Effect.forkChild(take)),
            (fiber) => Effect.as(settled, fiber)
          ))
        eventsRead()
        statements()
        const revision = write("a", ...keys, "zz")
        yield* notify(revision, ...keys)
        for (const [i, key] of keys.entries()) {
          assert.deepStrictEqual(yield* eventsOf(fibers[i]!), [`${revision} ${key}`])
        }
        assert.strictEqual(eventsRead(), keys.length)
        assert.deepStrictEqual(statements(), ["changes"])
        yield* Scope.close(scope, Exit.void)
      }
    }))

  it.effect("that is in flight when a watch of other keys is opened costs it a read only if it passed its start", () =>
    Effect.gen(function*() {
      const { notify, open, responses, statements, write } = yield* running
      yield* responses.close
      const read = write("watched/a")
      yield* notify(read, "watched/a")
      const watcher = yield* open(KeyRange.key("k"), { startRevision: read + 1n })
      yield* responses.open
      const taken = yield* taking(watcher)
      assert.deepStrictEqual(statements(), ["changes"])
      yield* notify(write("k"), "k")
      assert.deepStrictEqual(yield* eventsOf(taken), [`${read + 1n} k`])
    }))

  it.effect("that was sent without watches costs a watch that is opened then no event", () =>
    Effect.gen(function*() {
      const { notify, open, responses, statements, write } = yield* scriptedStore.make()
      const scope = yield* Scope.make()
      yield* Scope.provide(open(KeyRange.key("a")), scope)
      yield* settled
      yield* Scope.close(scope, Exit.void)
      statements()
      yield* responses.close
      write("b")
      // The notification of a revision after the next one.
      yield* notify(write("k"), "k")
      const watcher = yield* open(KeyRange.key("k"), { startRevision: 11n })
      assert.deepStrictEqual(statements(), ["changes"])
      yield* responses.open
      assert.deepStrictEqual(yield* eventsOf(yield* taking(watcher)), ["12 k"])
    }))
})

describe("a watch that starts after what the client has seen", () => {
  it.effect("is opened without a statement, and delivers every event from its start, once and in order", () =>
    Effect.gen(function*() {
      const { notify, open, statements, write } = yield* running
      const own = write("k")
      const watcher = yield* open(KeyRange.key("k"), { startRevision: own + 1n })
      assert.strictEqual(watcher.revision, own)
      yield* notify(own, "k")
      assert.deepStrictEqual(statements(), [])
      const [second, other, third] = [write("k"), write("other"), write("k")]
      yield* notify(second, "k")
      yield* notify(other, "other")
      yield* notify(third, "k")
      assert.deepStrictEqual(yield* eventsOf(yield* taking(watcher)), [`${second} k`, `${third} k`])
      const last = write("k")
      yield* notify(last, "k")
      assert.deepStrictEqual(yield* eventsOf(yield* taking(watcher)), [`${last} k`])
      assert.isFalse(statements().includes("state"))
    }))

  it.effect("is opened without a statement in the future, and delivers nothing before its start", () =>
    Effect.gen(function*() {
      const { notify, open, statements, write } = yield* running
      const watcher = yield* open(KeyRange.key("k"), { startRevision: 13n })
      assert.strictEqual(watcher.revision, 12n)
      for (const revision of [write("k"), write("k")]) yield* notify(revision, "k")
      assert.deepStrictEqual(statements(), [])
      const taken = yield* taking(watcher)
      yield* notify(write("watched/a"), "watched/a")
      assert.isUndefined(yield* eventsOf(taken))
      yield* notify(write("k"), "k")
      assert.deepStrictEqual(yield* eventsOf(taken), ["14 k"])
    }))

  it.effect("is opened without a statement after notifications of other keys, also of its own from before", () =>
    Effect.gen(function*() {
      const { notify, open, statements, write } = yield* running
      for (const key of ["k", "other", "other/2"]) yield* notify(write(key), key)
      const watcher = yield* open(KeyRange.key("k"), { startRevision: 12n })
      assert.deepStrictEqual(statements(), [])
      yield* notify(write("k"), "k")
      assert.deepStrictEqual(yield* eventsOf(yield* taking(watcher)), ["14 k"])
    }))

  for (const startRevision of [11n, 12n]) {
    it.effect(`reads the log at ${startRevision} if a notification of its key was irrelevant before it was opened`, () =>
      Effect.gen(function*() {
        const { notify, open, statements, write } = yield* running
        yield* notify(write("other"), "other")
        yield* notify(write("k"), "k")
        const watcher = yield* open(KeyRange.key("k"), { startRevision })
        assert.deepStrictEqual(statements(), ["changes"])
        assert.deepStrictEqual(yield* eventsOf(yield* taking(watcher)), ["12 k"])
      }))
  }

  it.effect("reads the log if more notifications were irrelevant than the feed remembers", () =>
    Effect.gen(function*() {
      const { notify, open, statements, write } = yield* running
      yield* notify(write("k"), "k")
      for (let i = 0; i < 300; i++) yield* notify(write("other"), "other")
      const watcher = yield* open(KeyRange.key("k"), { startRevision: 11n })
      assert.deepStrictEqual(statements(), ["changes"])
      assert.deepStrictEqual(yield* eventsOf(yield* taking(watcher)), ["11 k"])
    }))

  it.effect("reads the log if the feed has delivered its start", () =>
    Effect.gen(function*() {
      const { notify, open, statements, write } = yield* running
      write("k")
      yield* notify(write("watched/a"), "watched/a")
      statements()
      const watcher = yield* open(KeyRange.key("k"), { startRevision: 11n })
      assert.deepStrictEqual(statements(), ["changes"])
      assert.deepStrictEqual(yield* eventsOf(yield* taking(watcher)), ["11 k"])
    }))

  it.effect("is not one whose start the feed has delivered, even if it remembers notifications on both sides", () =>
    Effect.gen(function*() {
      const { feed, notify, write } = yield* running
      yield* notify(write("other"), "other")
      write("k")
      yield* notify(write("watched/a"), "watched/a")
      yield* notify(write("other"), "other")
      const before = [10n, 11n, 12n, 13n, 14n].map((revision) =>
        feed.isBefore(new WatchState({ range: KeyRange.key("k") }, revision))
      )
      assert.deepStrictEqual(before, [false, false, false, true, true])
    }))

  it.effect("misses nothing if it is opened while a read of the feed is in flight", () =>
    Effect.gen(function*() {
      const { notify, open, responses, statements, write } = yield* running
      yield* responses.close
      const [relevant, next] = [write("watched/a"), write("k")]
      yield* notify(relevant, "watched/a")
      assert.deepStrictEqual(statements(), ["changes"])
      const watcher = yield* open(KeyRange.key("k"), { startRevision: next })
      assert.deepStrictEqual(statements(), [])
      yield* responses.open
      // The notification comes after the read that found its revision.
      yield* notify(next, "k")
      assert.deepStrictEqual(yield* eventsOf(yield* taking(watcher)), [`${next} k`])
      const last = write("k")
      yield* notify(last, "k")
      assert.deepStrictEqual(yield* eventsOf(yield* taking(watcher)), [`${last} k`])
    }))

  it.effect("delivers the entries before its events", () =>
    Effect.gen(function*() {
      const { notify, open, statements, write } = yield* running
      const own = write("k")
      const watcher = yield* open(KeyRange.key("k"), { startRevision: own + 1n, previous: true })
      assert.deepStrictEqual(statements(), [])
      const taken = yield* taking(watcher)
      yield* notify(own, "k")
      yield* notify(write("k"), "k")
      assert.deepStrictEqual(yield* eventsOf(taken), [`${own + 1n} k`])
      // The feed's read, and the one of the watch.
      assert.deepStrictEqual(statements(), ["changes", "changes"])
    }))

  it.effect("reads the log, and fails if it was compacted, if the client has seen its start", () =>
    Effect.gen(function*() {
      const { compact, open, see, write } = yield* running
      const written = write("k")
      compact(written)
      see(written)
      const watch = open(KeyRange.key("k"), { startRevision: written })
      const error = yield* Effect.flip(Effect.flatMap(watch, ({ take }) => take))
      assert.strictEqual(error.reason._tag, "Compacted")
    }))

  it.effect("fails if the store cannot be reached", () =>
    Effect.gen(function*() {
      const { notify, open, setDown, write } = yield* running
      setDown(true)
      yield* notify(write("watched/a"), "watched/a")
      const error = yield* Effect.flip(open(KeyRange.key("k"), { startRevision: 12n }))
      assert.strictEqual(error.reason._tag, "Unavailable")
    }))

  it.effect("reads the log if no feed runs", () =>
    Effect.gen(function*() {
      const { open, statements } = yield* scriptedStore.make()
      yield* open(KeyRange.key("k"), { startRevision: 12n })
      assert.strictEqual(statements()[0], "changes")
    }))

  it.effect("is opened without a statement by a client that closed its last watch less than 2 s ago", () =>
    Effect.gen(function*() {
      const { notify, open, statements, write } = yield* scriptedStore.make()
      const scope = yield* Scope.make()
      yield* Scope.provide(open(KeyRange.key("a")), scope)
      yield* settled
      yield* Scope.close(scope, Exit.void)
      yield* notify(write("b"), "b")
      yield* adjust(1900)
      statements()
      const watcher = yield* open(KeyRange.key("k"), { startRevision: 12n })
      yield* adjust(1900)
      assert.deepStrictEqual(statements(), [])
      yield* notify(write("k"), "k")
      assert.deepStrictEqual(yield* eventsOf(yield* taking(watcher)), ["12 k"])
    }))
})

/** What the run of a seed does, step by step. */
const randomRun = Effect.fnUntraced(function*(seed: number) {
  // A linear congruential generator, by its upper bits.
  let state = seed
  const below = (n: number) => {
    state = (state * 1103515245 + 12345) % 2147483648
    return Math.floor(state / 65536) % n
  }
  const pick = <A>(values: ReadonlyArray<A>): A => values[below(values.length)]!
  const { feed, notify, open, responses, see, write } = yield* scriptedStore.make()
  const names = ["a", "b/1", "b/2", "c", "watched/a"]
  const written: Array<{ readonly revision: bigint; readonly keys: ReadonlyArray<string> }> = []
  const unsent: Array<Effect.Effect<void>> = []
  const watches: Array<
    { readonly isWithin: (key: string) => boolean; readonly from: bigint; readonly seen: Array<string> }
  > = []
  let last = 10n
  for (let step = 0; step < 60; step++) {
    switch (pick(["write", "write", "write", "notify", "notify", "lose", "forge", "open", "open", "time", "gate"])) {
      case "write": {
        const keys = names.filter(() => below(3) === 0)
        if (keys.length === 0) break
        last = write(...keys)
        written.push({ revision: last, keys })
        const send = notify(last, ...keys)
        // Most arrive soon, and in order.
        if (below(3) > 0) yield* send
        else unsent.push(send)
        if (below(3) === 0) see(last)
        break
      }
      case "notify": {
        const send = unsent.shift()
        if (send !== undefined) yield* send
        break
      }
      case "lose":
        unsent.shift()
        break
      case "forge":
        yield* notify(last + BigInt(below(3)), pick(names))
        break
      case "open": {
        const start = last + BigInt(below(6) - 2)
        const startRevision = below(4) === 0 ? undefined : start < 1n ? 1n : start
        const range = pick([KeyRange.key(pick(names)), KeyRange.prefix("b/"), KeyRange.all])
        const isWithin = (key: string) => KeyRange.contains(range, key)
        const seen: Array<string> = []
        yield* Effect.forkScoped(Effect.gen(function*() {
          const watcher = yield* open(range, { startRevision, previous: below(4) === 0 })
          watches.push({ isWithin, from: watcher.revision + 1n, seen })
          while (true) {
            for (const { events } of yield* watcher.take) {
              for (const { key, revision } of events) seen.push(`${revision} ${key}`)
            }
          }
        }))
        yield* settled
        break
      }
      case "time":
        yield* feed.noticed(last)
        yield* adjust(below(3000))
        break
      case "gate":
        yield* pick([responses.open, responses.close])
        yield* settled
        break
    }
  }
  yield* responses.open
  yield* adjust(5000)
  yield* feed.noticed(last)
  yield* adjust(5000)
  for (const { from, isWithin, seen } of watches) {
    const wanted = written.flatMap(({ keys, revision }) =>
      revision < from ? [] : keys.filter(isWithin).map((key) => `${revision} ${key}`)
    )
    assert.deepStrictEqual(seen, wanted, `seed ${seed}, from ${from}`)
  }
})

describe("watches of a client", () => {
  it.effect("leave the feed if their opening is interrupted, whenever that is", () =>
    Effect.gen(function*() {
      const { feed, open } = yield* running
      for (const startRevision of [undefined, 11n]) {
        for (let steps = 0; steps < 120; steps++) {
          const opening = yield* Effect.forkChild(
            Effect.scoped(open(KeyRange.key("k"), { startRevision })).pipe(
              // The fiber yields after every few steps.
              Effect.provideService(Scheduler.MaxOpsBeforeYield, 3 + steps % 4)
            )
          )
          yield* Effect.replicateEffect(Effect.yieldNow, steps >> 2, { discard: true })
          yield* Fiber.interrupt(opening)
          assert.strictEqual(feed.watches.size, 1, `${steps}`)
        }
      }
    }))

  it.effect("deliver every event once and in order, whatever happens to notifications and responses", () =>
    Effect.forEach(Array.from({ length: seeds }, (_, i) => i), (seed) => Effect.scoped(randomRun(seed)), {
      discard: true
    }))
})
