/**
 * What the bridge promises, as tests for any store: replicas with a `Reactivity` of their own see each other's changes.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import * as KvReactivity from "@effect-kv/reactivity/KvReactivity"
import { KvFaults } from "@effect-kv/test-suite/testing"
import { assert, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Scope from "effect/Scope"

/** The store under test. */
export class Store extends Context.Service<Store, {
  /** A new client, as if it were in another process. */
  readonly client: Effect.Effect<Kv.Kv, unknown, Scope.Scope>
  readonly compact: (revision: bigint) => Effect.Effect<void, unknown>
  readonly passTime: (duration: Duration.Input) => Effect.Effect<void>
}>()("@effect-kv/reactivity/test/Store") {}

/** A replica of a service: a client of the store and a `Reactivity` of its own. */
interface Replica {
  readonly kv: Kv.Kv
  readonly faults: KvFaults.KvFaults
  readonly reactivity: Reactivity.Reactivity
  /** Runs the query now and whenever the keys are invalidated. Returns its results. */
  readonly query: <A, E>(
    keys: KvReactivity.Keys,
    effect: Effect.Effect<A, E>
  ) => Effect.Effect<Queue.Dequeue<A, E>, never, Scope.Scope>
}

const replica = Effect.fnUntraced(function*(range: KeyRange.KeyRange, options?: KvReactivity.Options) {
  const store = yield* Store
  const faults = yield* KvFaults.make(backendOf(yield* store.client))
  const layer = KvReactivity.layer(range, options).pipe(
    Layer.provideMerge(Layer.fresh(Reactivity.layer)),
    Layer.provide(Layer.succeed(Kv.Kv, faults.kv))
  )
  const reactivity = Context.get(yield* Layer.build(layer), Reactivity.Reactivity)
  return { kv: faults.kv, faults, reactivity, query: reactivity.query } satisfies Replica
})

const realClock = Clock.Clock.defaultValue()

/** The next result of a query, within 20 seconds of real time. */
const next = <A, E>(results: Queue.Dequeue<A, E>) =>
  Effect.raceFirst(
    Queue.take(results),
    Effect.andThen(
      Effect.provideService(Effect.sleep("20 seconds"), Clock.Clock, realClock),
      Effect.die(new Error("the query did not run again"))
    )
  )

/** The first result that satisfies the predicate. */
const nextThat = <A, E>(results: Queue.Dequeue<A, E>, is: (a: A) => boolean): Effect.Effect<A, E> =>
  Effect.flatMap(next(results), (a) => is(a) ? Effect.succeed(a) : nextThat(results, is))

const users = KeyRange.prefix("users/")

const namesIn = (kv: Kv.Kv) => Effect.map(kv.range(users), ({ entries }) => entries.map(({ key }) => key.slice(6)))

/** Counts the runs of an effect. */
const counted = <A, E, R>(effect: Effect.Effect<A, E, R>) => {
  const runs = { count: 0 }
  return { runs, effect: Effect.suspend(() => (runs.count++, effect)) }
}

/** A later change is seen by this query as well, so all earlier ones have arrived when it has run. */
const settle = Effect.fnUntraced(function*({ kv, query }: Replica, key: string) {
  const results = yield* query([key], Effect.orDie(kv.getEntry(key)))
  const { revision } = yield* kv.put(key, "")
  yield* nextThat(results, Option.exists((entry) => entry.modRevision >= revision))
})

/** Registers the tests. Each builds the layer if it is not shared. */
export const suite = (test: (title: string, effect: Effect.Effect<void, unknown, Store | Scope.Scope>) => void) => {
  test(
    "a change by one replica refreshes the queries of all, its own included",
    Effect.gen(function*() {
      const replicas = yield* Effect.replicateEffect(replica(users), 3)
      const queries = yield* Effect.forEach(replicas, ({ kv, query }) =>
        Effect.all({
          all: query(["users/"], namesIn(kv)),
          ada: query(["users/ada"], kv.get("users/ada"))
        }))
      for (const { ada, all } of queries) {
        assert.deepStrictEqual(yield* next(all), [])
        assert.deepStrictEqual(yield* next(ada), Option.none())
      }
      yield* replicas[1]!.kv.put("users/ada", "1")
      for (const { ada, all } of queries) {
        assert.deepStrictEqual(yield* next(all), ["ada"])
        assert.deepStrictEqual(yield* next(ada), Option.some("1"))
      }
      yield* replicas[2]!.kv.delete("users/ada")
      for (const { ada, all } of queries) {
        assert.deepStrictEqual(yield* next(all), [])
        assert.deepStrictEqual(yield* next(ada), Option.none())
      }
    })
  )

  test(
    "a transaction runs each query once, and only the queries of its keys",
    Effect.gen(function*() {
      const one = yield* replica(KeyRange.all)
      const folder = counted(Effect.void)
      const other = counted(Effect.void)
      yield* one.query(["users/", "users/a", "users/b"], folder.effect)
      yield* one.query(["users/c", "orders/", "users"], other.effect)
      yield* one.kv.txn({ then: [Op.put("users/a", "1"), Op.put("users/b", "1"), Op.put("elsewhere", "1")] })
      yield* settle(one, "end")
      assert.strictEqual(folder.runs.count, 2)
      assert.strictEqual(other.runs.count, 1)
    })
  )

  test(
    "the option `keys` maps keys of the store, and a key for which it throws does not hide others",
    Effect.gen(function*() {
      const logged: Array<string> = []
      const logger = Logger.make(({ logLevel }) => void logged.push(logLevel))
      const one = yield* Effect.provide(
        replica(KeyRange.prefix("changed/"), {
          keys: (key) => {
            const [, table = "", id] = key.split("/")
            if (table === "bad") throw new Error("a test fault")
            return id === undefined ? [table] : { [table]: [Number(id)] }
          }
        }),
        Logger.layer([logger])
      )
      const table = yield* one.query(["orders"], one.kv.get("orders"))
      const row = yield* one.query(["users:7"], one.kv.get("users/7"))
      const row8 = counted(Effect.void)
      yield* one.query(["users:8"], row8.effect)
      yield* Effect.all([next(table), next(row)])
      yield* one.kv.txn({
        then: [Op.put("orders", "a"), Op.put("users/7", "b"), Op.put("changed/bad", ""), Op.put("changed/orders", "")]
      })
      assert.deepStrictEqual(yield* next(table), Option.some("a"))
      yield* one.kv.put("changed/users/7", "")
      assert.deepStrictEqual(yield* next(row), Option.some("b"))
      assert.strictEqual(row8.runs.count, 1)
      assert.deepStrictEqual(logged, ["Error"])
    })
  )

  test(
    "a handler that throws does not end the bridge",
    Effect.gen(function*() {
      const logged: Array<string> = []
      const logger = Logger.make(({ logLevel }) => void logged.push(logLevel))
      const one = yield* Effect.provide(replica(users), Logger.layer([logger]))
      one.reactivity.registerUnsafe(["users/bad"], () => {
        throw new Error("a test fault")
      })
      const results = yield* one.query(["users/ada"], one.kv.get("users/ada"))
      assert.deepStrictEqual(yield* next(results), Option.none())
      yield* one.kv.put("users/bad", "")
      yield* one.kv.put("users/ada", "1")
      assert.deepStrictEqual(yield* nextThat(results, Option.isSome), Option.some("1"))
      assert.deepStrictEqual(logged, ["Error"])
    })
  )

  test(
    "what changed in an outage is invalidated after it",
    Effect.gen(function*() {
      const [one, two] = [yield* replica(users), yield* replica(users)]
      const results = yield* two.query(["users/"], namesIn(one.kv))
      assert.deepStrictEqual(yield* next(results), [])
      yield* two.faults.cutWatches()
      yield* one.kv.put("users/ada", "1")
      assert.deepStrictEqual(yield* next(results), ["ada"])
    })
  )

  test(
    "if history is gone, everything is invalidated, also the keys that were deleted meanwhile",
    Effect.gen(function*() {
      const store = yield* Store
      const writer = yield* store.client
      yield* writer.put("users/old", "1")
      const one = yield* replica(users)
      yield* one.kv.put("users/same", "1")
      yield* settle(one, "users/settled")
      const read = (key: string) => one.query([key], writer.get(key))
      const queries = yield* Effect.all({
        old: read("users/old"),
        same: read("users/same"),
        new: read("users/new"),
        all: one.query(["users/"], namesIn(writer))
      })
      yield* Effect.forEach(Object.values(queries), (results: Queue.Dequeue<unknown, unknown>) => next(results))
      const held = yield* one.faults.hold("request", { when: (call) => call.kind === "watch" })
      yield* one.faults.cutWatches({ failure: new KvError.Compacted({ compactRevision: Option.none() }) })
      yield* held.reached
      yield* writer.delete("users/old")
      const { revision } = yield* writer.put("users/new", "1")
      yield* store.compact(revision)
      yield* held.letGo
      assert.deepStrictEqual(yield* next(queries.old), Option.none())
      assert.deepStrictEqual(yield* next(queries.same), Option.some("1"))
      assert.deepStrictEqual(yield* next(queries.new), Option.some("1"))
      assert.deepStrictEqual(yield* next(queries.all), ["new", "same", "settled"])
      // And it follows again.
      yield* writer.put("users/same", "2")
      assert.deepStrictEqual(yield* next(queries.same), Option.some("2"))
    })
  )

  test(
    "a revoked permission is survived: everything is invalidated once it is granted again",
    Effect.gen(function*() {
      const store = yield* Store
      const writer = yield* store.client
      const one = yield* replica(users)
      const results = yield* one.query(["users/"], namesIn(writer))
      yield* next(results)
      // The first attempt fails after it has opened a watch.
      yield* one.faults.inject(KvFaults.unavailable, { when: (call) => call.op?._tag === "Range" })
      yield* one.faults.cutWatches({ failure: new KvError.PermissionDenied({ message: "a test fault" }) })
      yield* writer.put("users/ada", "1")
      const refreshed = yield* Effect.forkChild(nextThat(results, (names) => names.length === 1), {
        startImmediately: true
      })
      while (refreshed.pollUnsafe() === undefined) yield* store.passTime("250 millis")
      yield* writer.put("users/bert", "1")
      assert.deepStrictEqual(yield* nextThat(results, (names) => names.length === 2), ["ada", "bert"])
      assert.strictEqual(yield* one.faults.cutWatches(), 1)
    })
  )

  test(
    "after the scope has closed nothing is invalidated, and no watch is left",
    Effect.gen(function*() {
      const store = yield* Store
      const faults = yield* KvFaults.make(backendOf(yield* store.client))
      const reactivity = yield* Reactivity.make
      const scope = yield* Scope.make()
      yield* KvReactivity.follow(users).pipe(
        Effect.provideService(Reactivity.Reactivity, reactivity),
        Effect.provideService(Kv.Kv, faults.kv),
        Scope.provide(scope)
      )
      const query = counted(Effect.void)
      yield* reactivity.query(["users/"], query.effect)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* faults.cutWatches(), 0)
      yield* faults.kv.put("users/ada", "1")
      yield* settle(yield* replica(users), "users/settled")
      assert.strictEqual(query.runs.count, 1)
    })
  )

  test(
    "a store that cannot be read at first is the caller's failure",
    Effect.gen(function*() {
      const store = yield* Store
      const faults = yield* KvFaults.make(backendOf(yield* store.client))
      yield* faults.inject(KvFaults.unavailable)
      const error = yield* KvReactivity.follow(users).pipe(
        Effect.provideService(Reactivity.Reactivity, yield* Reactivity.make),
        Effect.provideService(Kv.Kv, faults.kv),
        Effect.scoped,
        Effect.flip
      )
      assert.strictEqual(error.reason._tag, "Unavailable")
      assert.strictEqual(yield* faults.cutWatches(), 0)
    })
  )
}

it("the default keys are the key and its folders", () => {
  assert.deepStrictEqual(KvReactivity.keysOf("a"), ["a"])
  assert.deepStrictEqual(KvReactivity.keysOf("a/b/c"), ["a/b/c", "a/b/", "a/"])
  assert.deepStrictEqual(KvReactivity.keysOf("/a"), ["/a", "/"])
})
