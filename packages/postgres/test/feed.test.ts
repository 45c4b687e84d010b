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

describe("the feed of a client, when the connection of its listener is silent", () => {
  it.effect("reads every 200 milliseconds until that connection is released, and then listens again", () =>
    Effect.gen(function*() {
      const { breakListener, releases, statements, taken, write } = yield* running
      yield* releases.close
      yield* breakListener
      yield* adjust(50)
      statements()
      const revision = write("watched/a")
      yield* adjust(200)
      assert.deepStrictEqual(yield* eventsOf(taken), [`${revision} watched/a`])
      yield* adjust(800)
      assert.deepStrictEqual(statements(), Array.from({ length: 5 }, () => "changes"))
      yield* releases.open
      yield* adjust(200)
      assert.deepStrictEqual(statements(), ["notify", "changes"])
      yield* adjust(5000)
      assert.deepStrictEqual(statements(), [])
    }))

  it.effect("delivers events if the database does not confirm the listener, which it tries again", () =>
    Effect.gen(function*() {
      const { breakListener, confirmations, statements, taken, write } = yield* running
      yield* confirmations.close
      yield* breakListener
      yield* adjust(50)
      const revision = write("watched/a")
      yield* adjust(5000)
      assert.deepStrictEqual(yield* eventsOf(taken), [`${revision} watched/a`])
      statements()
      yield* confirmations.open
      yield* adjust(200)
      assert.include(statements(), "notify")
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
      // It notifies itself, to know whether the next ones arrive.
      assert.deepStrictEqual(statements(), ["changes", "notify"])
      yield* adjust(2000)
      assert.deepStrictEqual(statements(), [])
    }))

  it.effect("delivers events within 200 ms after the first whose notification did not arrive, until they arrive again", () =>
    Effect.gen(function*() {
      const { feed, notify, open, setDeaf, statements, taken, write } = yield* running
      setDeaf(true)
      yield* adjust(6000)
      const first = write("watched/a")
      yield* feed.noticed(first)
      yield* settled
      assert.deepStrictEqual(yield* eventsOf(taken), [`${first} watched/a`])
      const watcher = yield* open(KeyRange.key("k"))
      for (let i = 0; i < 20; i++) {
        const next = yield* taking(watcher)
        const revision = write("k")
        yield* adjust(200)
        assert.deepStrictEqual(yield* eventsOf(next), [`${revision} k`])
      }
      setDeaf(false)
      yield* notify(write("other"), "other")
      statements()
      yield* adjust(4000)
      assert.deepStrictEqual(statements(), [])
    }))

  it.effect("listens on another connection 2 s after a notification did not arrive, and reads until then", () =>
    Effect.gen(function*() {
      const { feed, listeners, notify, open, setDeaf, statements, taken, write } = yield* running
      setDeaf("untilNext")
      yield* adjust(6000)
      yield* feed.noticed(write("other"))
      yield* settled
      const first = write("watched/a")
      yield* adjust(200)
      assert.deepStrictEqual(yield* eventsOf(taken), [`${first} watched/a`])
      yield* adjust(1000)
      assert.deepStrictEqual(listeners(), [1, 0])
      yield* adjust(2000)
      assert.deepStrictEqual(listeners(), [1, 1])
      // Notifications arrive on the new connection.
      const watcher = yield* open(KeyRange.key("k"))
      const next = yield* taking(watcher)
      const revision = write("k")
      yield* notify(revision, "k")
      assert.deepStrictEqual(yield* eventsOf(next), [`${revision} k`])
      statements()
      yield* adjust(4000)
      assert.deepStrictEqual(statements(), [])
    }))

  it.effect("keeps a connection on which no notification has ever arrived", () =>
    Effect.gen(function*() {
      const { listeners, open } = yield* scriptedStore.make({ canListen: true, isHeard: false })
      yield* open(KeyRange.key("k"))
      yield* adjust(60_000)
      assert.deepStrictEqual(listeners(), [1, 0])
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

/** A linear congruential generator, by its upper bits. */
const generator = (seed: number) => {
  let state = seed
  const below = (n: number) => {
    state = (state * 1103515245 + 12345) % 2147483648
    return Math.floor(state / 65536) % n
  }
  return { below, pick: <A>(values: ReadonlyArray<A>): A => values[below(values.length)]! }
}

interface Written {
  readonly revision: bigint
  readonly keys: ReadonlyArray<string>
  readonly isDelete: boolean
}

/** A watch of a random run, and what its consumer has seen. */
interface Observed {
  readonly requests: (written: Written, key: string) => boolean
  readonly from: bigint
  readonly seen: Array<string>
  /** The store that it watches: later ones are restored backups. */
  readonly store: number
  /** Why it ended. */
  end: string | undefined
}

const steps = "write write write write delete notify notify lose forge open open open close time time gate".split(" ")
const faults = ["many", "pause", "down", "break", "compact", "restore"]

/**
 * `prompt`: notifications arrive in order, and each event must arrive with them. `wrong`: notifications are late, lost and
 * made up. `faults`: the store fails and is replaced, too.
 */
type Mode = "prompt" | "wrong" | "faults"

/** What the run of a seed does, step by step. */
const randomRun = Effect.fnUntraced(function*(seed: number, mode: Mode) {
  const { below, pick } = generator(seed)
  const hasFaults = mode === "faults"
  // With a watch of all keys, or many watches, the feed reads everything.
  const mostWatches = 1 + below(6)
  const ranges = [
    ...["a", "b/1", "b/2", "c", "watched/a"].map((name) => KeyRange.key(name)),
    KeyRange.prefix("b/"),
    ...(below(2) === 0 ? [KeyRange.all] : [])
  ]
  const store = yield* scriptedStore.make()
  const { notify, open, responses, see, sweep } = store
  const names = ["a", "b/1", "b/2", "c", "watched/a"]
  /** What was written to each store. */
  const stores: Array<Array<Written>> = [[]]
  const unsent: Array<Effect.Effect<void>> = []
  const watches: Array<Observed> = []
  const scopes: Array<Scope.Closeable> = []
  let last = 10n
  let compacted = 0n
  /** Whether responses arrive. */
  let isOpen = true
  const write = Effect.fnUntraced(function*(keys: ReadonlyArray<string>, isDelete: boolean) {
    if (keys.length === 0) return
    last = isDelete ? store.remove(...keys) : store.write(...keys)
    stores[stores.length - 1]!.push({ revision: last, keys, isDelete })
    const send = notify(last, ...keys)
    // Most arrive soon, and in order.
    if (mode === "prompt" || below(3) > 0) yield* send
    else unsent.push(send)
    if (below(3) === 0) see(last)
  })
  const wantedBy = ({ from, requests, store }: Observed) =>
    stores[store]!.flatMap((written) =>
      written.revision < from ?
        [] :
        written.keys.filter((key) => requests(written, key)).map((key) =>
          `${written.revision} ${key} ${written.isDelete ? "Delete" : "Put"}`
        )
    )
  for (let step = 0; step < (hasFaults ? 120 : 60); step++) {
    switch (hasFaults && below(5) === 0 ? pick(faults) : pick(steps)) {
      case "write":
        yield* write(names.filter(() => below(3) === 0), false)
        break
      case "delete":
        yield* write(names.filter(() => below(3) === 0), true)
        break
      case "notify": {
        const send = unsent.shift()
        if (send !== undefined) yield* send
        break
      }
      case "lose":
        unsent.shift()
        break
      case "forge":
        if (mode === "prompt") break
        yield* notify(last + BigInt(below(3)), pick(names))
        break
      case "open": {
        const start = last + BigInt(below(6) - 2)
        const startRevision = below(4) === 0 ? undefined : start < 1n ? 1n : start
        const range = pick(ranges)
        const only = pick(["Put", "Delete", undefined, undefined] as const)
        const scope = yield* Scope.make()
        scopes.push(scope)
        if (scopes.length > mostWatches) yield* Scope.close(scopes.shift()!, Exit.void)
        yield* Effect.gen(function*() {
          const watcher = yield* Scope.provide(open(range, { startRevision, only, previous: below(4) === 0 }), scope)
          const observed: Observed = {
            requests: ({ isDelete }, key) =>
              KeyRange.contains(range, key) && (only === undefined || isDelete === (only === "Delete")),
            from: watcher.revision + 1n,
            seen: [],
            store: stores.length - 1,
            end: undefined
          }
          watches.push(observed)
          return yield* Effect.forever(Effect.map(watcher.take, (revisions) => {
            for (const { events } of revisions) {
              for (const { _tag, key, revision } of events) observed.seen.push(`${revision} ${key} ${_tag}`)
            }
          })).pipe(
            Effect.catch((error) =>
              Effect.sync(() => {
                observed.end = error.reason._tag
              })
            )
          )
        }).pipe(Effect.ignore, Effect.forkScoped)
        yield* settled
        break
      }
      case "close": {
        const [scope] = scopes.splice(below(Math.max(1, scopes.length)), 1)
        if (scope !== undefined) yield* Scope.close(scope, Exit.void)
        break
      }
      case "time":
        yield* sweep.pipe(Effect.forkScoped)
        yield* adjust(below(3000))
        break
      case "gate":
        isOpen = below(2) === 0
        yield* isOpen ? responses.open : responses.close
        yield* settled
        break
      case "many":
        for (let i = 0; i < 3; i++) yield* write(Array.from({ length: 600 }, (_, i) => `b/many/${i}`), false)
        break
      case "pause":
        for (const scope of scopes.splice(0)) yield* Scope.close(scope, Exit.void)
        yield* adjust(below(4000))
        break
      case "down":
        store.setDown(below(2) === 0)
        break
      case "break":
        unsent.length = 0
        yield* store.breakListener
        break
      case "compact":
        compacted = last - BigInt(below(4))
        store.compact(compacted)
        break
      case "restore":
        if (last < 15n) break
        yield* responses.open
        isOpen = true
        store.setDown(false)
        yield* settled
        unsent.length = 0
        see(last)
        last -= BigInt(1 + below(4))
        store.restore(last)
        stores.push(stores[stores.length - 1]!.filter(({ revision }) => revision <= last))
        yield* store.breakListener
        yield* sweep
        compacted = compacted > last ? last : compacted
        store.compact(compacted)
        break
    }
    if (mode !== "prompt" || !isOpen) continue
    for (const watch of watches) {
      if (watch.end === undefined) assert.deepStrictEqual(watch.seen, wantedBy(watch), `seed ${seed}, step ${step}`)
    }
  }
  yield* responses.open
  store.setDown(false)
  store.statements()
  const isUpToDate = Effect.as(Effect.andThen(adjust(2500), sweep), undefined).pipe(
    Effect.map(() => watches.every((watch) => watch.end !== undefined || watch.seen.length >= wantedBy(watch).length))
  )
  for (let i = 0; i < 4; i++) yield* isUpToDate
  // A watch whose read failed reads again after 200 milliseconds of the real time.
  for (let i = 0; i < 100 && !(yield* isUpToDate); i++) yield* TestClock.withLive(Effect.sleep(10))
  yield* settled
  for (const watch of watches) {
    const wanted = wantedBy(watch)
    const what = `seed ${seed}, from ${watch.from}, ended: ${watch.end}`
    if (watch.end === undefined) assert.deepStrictEqual(watch.seen, wanted, what)
    else {
      assert.include(hasFaults ? ["Closed", "Compacted", "StoreReplaced"] : ["Closed"], watch.end, what)
      assert.deepStrictEqual(watch.seen, wanted.slice(0, watch.seen.length), what)
    }
  }
  // No watch reads without a pause.
  assert.isAtMost(store.statements().length, 200)
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

  // They only compute, for seconds on an idle machine.
  const longest = 180_000

  const run = (mode: Mode) =>
    Effect.forEach(Array.from({ length: seeds }, (_, i) => i), (seed) => Effect.scoped(randomRun(seed, mode)), {
      discard: true
    })

  it.effect("deliver every event once and in order, as soon as its notification arrives", () => run("prompt"), longest)

  it.effect("do so later if notifications are lost, late or made up", () => run("wrong"), longest)

  it.effect("do so across failures, compactions and restored backups, or end", () => run("faults"), longest)
})
