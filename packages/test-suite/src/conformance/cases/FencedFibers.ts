/**
 * Fenced fibers: a lock fences the writes of the fiber that runs its body and of all fibers it starts, through every `Kv` of
 * the client.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as Fence from "@effect-kv/core/Fence"
import * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import { assert } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as LayerMap from "effect/LayerMap"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Queue from "effect/Queue"
import * as RcMap from "effect/RcMap"
import * as Request from "effect/Request"
import * as RequestResolver from "effect/RequestResolver"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { chapter, promptly, test } from "./Case.ts"
import { textOf } from "./entries.ts"
import { blindClient, isFenced, isNotFenced, isRejectedBy, type Write, writes } from "./fences.ts"
import { on } from "./locking.ts"

/** A typical service of an application: it captures `Kv` when its layer is built. */
class Repository extends Context.Service<Repository, {
  readonly kv: Kv.Kv
  readonly save: (value: string) => Effect.Effect<unknown, KvError>
}>()("@effect-kv/test-suite/Repository") {
  static readonly layer = Layer.effect(Repository)(
    Effect.map(Kv.Kv, (kv) => ({ kv, save: (value) => kv.put("k", value) }))
  )
}

const save: Write<Repository> = (value) => Effect.flatMap(Repository, (repository) => repository.save(value))

/** Sends each write to a fiber that was started when the service was made, and waits until it is written. */
const makeActor = Effect.fnUntraced(function*(
  kv: Kv.Kv,
  as: <A, E>(write: Effect.Effect<A, E>, fences: ReadonlyArray<Fence.Fence>) => Effect.Effect<A, E> = (write) => write
) {
  const queue = yield* Queue.unbounded<{
    readonly value: string
    readonly fences: ReadonlyArray<Fence.Fence>
    readonly done: Deferred.Deferred<unknown, KvError>
  }>()
  const work = Effect.flatMap(
    Queue.take(queue),
    ({ done, fences, value }) =>
      Effect.flatMap(Effect.exit(as(kv.put("k", value), fences)), (exit) => Deferred.done(done, exit))
  )
  yield* Effect.forkScoped(Effect.forever(work))
  return Effect.fnUntraced(function*(value: string) {
    const fences = yield* Fence.Current
    const done = yield* Deferred.make<unknown, KvError>()
    yield* Queue.offer(queue, { value, fences, done })
    return yield* Deferred.await(done)
  })
})

const joined = <A, E, R>(fiber: Effect.Effect<Fiber.Fiber<A, E>, never, R>) => Effect.flatMap(fiber, Fiber.join)

/** Ways to start fibers that write. */
const starts: Readonly<
  Record<string, (write: Effect.Effect<unknown, KvError>) => Effect.Effect<unknown, KvError, Scope.Scope>>
> = {
  forkChild: (write) => joined(Effect.forkChild(write)),
  forkDetach: (write) => joined(Effect.forkDetach(write)),
  forkScoped: (write) => joined(Effect.forkScoped(write)),
  forkIn: (write) => Effect.flatMap(Effect.scope, (scope) => joined(Effect.forkIn(write, scope))),
  raceFirst: (write) => Effect.raceFirst(Effect.never, write),
  all: (write) => Effect.all([Effect.void, write], { concurrency: "unbounded" }),
  timeout: (write) => Effect.orDie(Effect.timeout(Effect.exit(write), "1 hour")).pipe(Effect.flatten),
  "Stream.mapEffect": (write) =>
    Stream.runDrain(Stream.mapEffect(Stream.make(1), () => write, { concurrency: 2, unordered: true })),
  "Stream.merge": (write) => Stream.runDrain(Stream.merge(Stream.fromEffect(write), Stream.empty))
}

export const cases = chapter("fenced fibers", [
  test("a service that captured Kv before the lock was acquired is fenced, whatever it writes", function*(kv) {
    for (const [i, write] of writes.entries()) {
      const client = yield* blindClient
      const { kv: captured } = yield* Effect.provide(Repository, Repository.layer).pipe(on(client))
      yield* kv.put("k", "1")
      let lost: Exit.Exit<unknown, KvError> = Exit.void
      const end = yield* DistLock.use(`l${i}`, (lock) =>
        Effect.uninterruptible(Effect.gen(function*() {
          yield* kv.delete(lock.key)
          lost = yield* Effect.exit(write(captured))
        }))).pipe(on(client), Effect.exit)
      assert.isTrue(Exit.isFailure(end))
      assert.isTrue(Exit.isFailure(lost), `write ${i}`)
      assert.strictEqual(yield* textOf(kv, "k"), "1", `write ${i}`)
    }
  }),

  test("a service is fenced whether its layer is provided before or after the lock is acquired", function*(kv) {
    const client = yield* blindClient
    yield* isFenced(
      kv,
      client,
      "inside",
      (value) => Effect.provide(save(value), Repository.layer).pipe(on(client)),
      "inside"
    )
    yield* isFenced(kv, client, "outside", save, "outside").pipe(Effect.provide(Repository.layer), on(client))
  }),

  test("a memoized namespace that is provided again under the lock is fenced", function*(kv) {
    const client = yield* blindClient
    const App = Kv.layerPrefixed("app/")
    yield* Effect.gen(function*() {
      const outside = yield* Kv.Kv
      const write: Write = (value) =>
        Effect.provide(Effect.flatMap(Kv.Kv, (inside) => inside.put("app/k", value)), App).pipe(on(outside))
      yield* isFenced(kv, outside, "l", write, "provided again")
    }).pipe(Effect.provide(App), on(client))
    assert.isUndefined(yield* textOf(kv, "app/app/k"))
    assert.isUndefined(yield* textOf(kv, "app/k"))
  }),

  test("an effect that runs in a context captured before the lock is fenced", function*(kv) {
    const client = yield* blindClient
    const context = yield* on(client)(Effect.context<Kv.Kv>())
    yield* isFenced(kv, client, "l", (value) => Effect.provideContext(Kv.put("k", value), context), "captured context")
  }),

  test("a service that is built under a lock and cached is fenced by the locks of its caller", function*(kv) {
    const client = yield* blindClient
    const layers = yield* LayerMap.make((_: string) => Layer.provide(Repository.layer, Layer.succeed(Kv.Kv, client)))
    const resources = yield* RcMap.make({
      lookup: (_: string) => Effect.provide(Repository, Repository.layer).pipe(on(client)),
      idleTimeToLive: "1 hour"
    })
    const cached = yield* Effect.cached(Effect.provide(Repository, Repository.layer).pipe(on(client)))
    const ways: Readonly<Record<string, Write>> = {
      LayerMap: (value) => Effect.provide(save(value), layers.get("a")),
      RcMap: (value) =>
        Effect.scoped(Effect.flatMap(RcMap.get(resources, "a"), (repository) => repository.save(value))),
      cached: (value) => Effect.flatMap(cached, (repository) => repository.save(value))
    }
    for (const [what, write] of Object.entries(ways)) {
      yield* isFenced(kv, client, "first", write, `${what}, first used under a lock`)
      yield* write("outside")
      assert.strictEqual(yield* textOf(kv, "k"), "outside", `${what}, without a lock`)
      yield* isFenced(kv, client, "next", write, `${what}, under the next lock`)
      yield* DistLock.withDistLock(write("kept"), "kept").pipe(on(client))
      assert.strictEqual(yield* textOf(kv, "k"), "kept", what)
    }
  }),

  test("fibers of a service that was built under a lock are rejected after its release, unless unfenced", function*() {
    const client = yield* blindClient
    const [inherits, unfenced] = yield* DistLock.withDistLock(
      Effect.all([makeActor(client), Fence.unfenced(makeActor(client))]),
      "l"
    ).pipe(on(client))
    const message = (yield* Effect.flip(promptly("the rejection", inherits("late")))).message
    assert.match(message, /Fence\.unfenced/)
    yield* unfenced("kept")
    assert.strictEqual(yield* textOf(client, "k"), "kept")
  }),

  test("every fiber that the body starts is fenced, whichever operator starts it", function*(kv) {
    const client = yield* blindClient
    for (const [what, start] of Object.entries(starts)) {
      const write: Write = (value) => Effect.scoped(start(client.put("k", value)))
      yield* isFenced(kv, client, what, write, what)
    }
  }),

  test(
    "a fiber that outlives the lock is rejected, and the error says how to start it instead",
    function*(kv) {
      const client = yield* blindClient
      const outer = yield* Effect.scope
      const forks = {
        forkDetach: <E>(write: Effect.Effect<unknown, E>) => Effect.forkDetach(write),
        forkIn: <E>(write: Effect.Effect<unknown, E>) => Effect.forkIn(write, outer),
        forkScoped: <E>(write: Effect.Effect<unknown, E>) => Scope.provide(Effect.forkScoped(write), outer)
      }
      for (const [what, fork] of Object.entries(forks)) {
        const released = yield* Deferred.make<void>()
        const late = Effect.andThen(Deferred.await(released), client.put("k", "late"))
        let token = 0n
        const fiber = yield* DistLock.use(what, (lock) => {
          token = lock.token
          return fork(late)
        }).pipe(on(client))
        yield* Deferred.succeed(released, undefined)
        const exit = yield* promptly("the end", Fiber.await(fiber))
        assert.match(isRejectedBy(token, exit, what), /Fence\.unfenced/)
        assert.isUndefined(yield* textOf(kv, "k"))
      }
      const fiber = yield* DistLock.withDistLock(Effect.forkDetach(client.put("k", "1")).pipe(Fence.unfenced), "l")
        .pipe(
          on(client)
        )
      yield* Fiber.join(fiber)
      assert.strictEqual(yield* textOf(kv, "k"), "1")
    }
  ),

  test(
    "a fiber that was started before the lock is not fenced, unless it is given the fences or a fenced Kv",
    function*(kv) {
      const client = yield* blindClient
      yield* isNotFenced(kv, client, "a", yield* makeActor(client), "an actor")
      const handed = yield* makeActor(client, (write, fences) => Effect.provideService(write, Fence.Current, fences))
      yield* isFenced(kv, client, "b", handed, "an actor that is handed the fences")
      // The fenced Kv is made where the lock is known.
      const write: Write = (value) =>
        Effect.flatMap(fencedKv, (fenced) => Effect.scoped(Effect.flatMap(makeActor(fenced), (actor) => actor(value))))
      let fencedKv: Effect.Effect<Kv.Kv> = Effect.succeed(client)
      let token = 0n
      let lost: Exit.Exit<unknown, unknown> = Exit.void
      yield* DistLock.use("c", (lock) =>
        Effect.uninterruptible(Effect.gen(function*() {
          token = lock.token
          fencedKv = Effect.succeed(DistLock.fence(client, lock))
          yield* write("held")
          yield* kv.delete(lock.key)
          lost = yield* Effect.exit(write("stale"))
        })), { fenced: false }).pipe(on(client), Effect.exit)
      isRejectedBy(token, lost, "an actor with a fenced Kv")
      assert.strictEqual(yield* textOf(kv, "k"), "held")
    }
  ),

  test("another runtime is not fenced, unless it is given the fences or a fenced Kv", function*(kv) {
    const client = yield* blindClient
    // Every runtime uses the clock of the store.
    const clock = Context.make(Clock.Clock, yield* Clock.Clock)
    const runtimeOf = (kv: Kv.Kv) =>
      Effect.acquireRelease(
        Effect.sync(() => ManagedRuntime.make(Layer.merge(Layer.succeed(Kv.Kv, kv), Layer.succeedContext(clock)))),
        (runtime) => runtime.disposeEffect
      )
    const runtime = yield* runtimeOf(client)
    const within = (write: Effect.Effect<unknown, KvError, Kv.Kv>) =>
      Effect.flatten(Effect.promise(() => runtime.runPromiseExit(write)))
    yield* isNotFenced(kv, client, "a", (value) => within(Kv.put("k", value)), "a runtime")
    const handed: Write = (value) =>
      Effect.flatMap(
        Fence.Current,
        (fences) => within(Effect.provideService(Kv.put("k", value), Fence.Current, fences))
      )
    yield* isFenced(kv, client, "b", handed, "a runtime that is handed the fences")
    const { lost, token } = yield* Effect.gen(function*() {
      let token = 0n
      let lost: Exit.Exit<unknown, unknown> = Exit.void
      yield* DistLock.use("c", (lock) =>
        Effect.uninterruptible(Effect.gen(function*() {
          token = lock.token
          const fenced = DistLock.fence(client, lock)
          yield* kv.delete(lock.key)
          lost = yield* Effect.exit(within(fenced.put("k", "stale")))
        }))).pipe(on(client), Effect.exit)
      return { token, lost }
    })
    isRejectedBy(token, lost, "a runtime with a fenced Kv")
    // A fiber that is started outside runs outside.
    const run = yield* FiberSet.makeRuntime<never, unknown, KvError>()
    yield* isNotFenced(kv, client, "d", (value) => Fiber.join(run(client.put("k", value))), "a FiberSet made outside")
    const inside: Write = (value) =>
      Effect.scoped(
        Effect.flatMap(
          FiberSet.makeRuntime<never, unknown, KvError>(),
          (run) => Fiber.join(run(client.put("k", value)))
        )
      )
    yield* isFenced(kv, client, "e", inside, "a FiberSet made inside")
  }),

  test("a resolver that groups requests by their fences fails no caller for the lost lock of another", function*(kv) {
    const client = yield* blindClient
    interface Save extends Request.Request<void, KvError> {
      readonly _tag: "Save"
      readonly key: string
      readonly value: string
    }
    const Save = Request.tagged<Save>("Save")
    const batches: Array<number> = []
    const resolver = RequestResolver.makeGrouped<Save, ReadonlyArray<Fence.Fence>>({
      key: ({ context }) => Context.get(context, Fence.Current),
      resolver: (entries) =>
        Effect.gen(function*() {
          batches.push(entries.length)
          const exit = yield* Effect.exit(
            Effect.forEach(entries, ({ request }) => client.put(request.key, request.value), { discard: true })
          )
          for (const entry of entries) entry.completeUnsafe(exit)
        })
    })
    const request = (key: string) => Effect.request(Save({ key, value: "saved" }), resolver)
    const ready = yield* Deferred.make<void>()
    const holders = ["a", "b", "c"] as const
    const entered = new Set<string>()
    const holder = (name: (typeof holders)[number]) =>
      DistLock.use(name, (lock) =>
        Effect.gen(function*() {
          if (name === "b") yield* kv.delete(lock.key)
          entered.add(name)
          if (entered.size === holders.length) yield* Deferred.succeed(ready, undefined)
          yield* Deferred.await(ready)
          return yield* Effect.all([request(`${name}1`), request(`${name}2`)], { concurrency: "unbounded" })
        })).pipe(on(client), Effect.exit)
    const unlocked = Effect.andThen(Deferred.await(ready), request("none"))
    const [a, b, c] = yield* promptly(
      "the requests",
      Effect.all([holder("a"), holder("b"), holder("c"), unlocked], { concurrency: "unbounded" })
    )
    assert.deepStrictEqual([a, b, c].map(Exit.isSuccess), [true, false, true])
    assert.deepStrictEqual(batches.toSorted(), [1, 2, 2, 2])
    const written = yield* Effect.forEach(["a1", "a2", "b1", "b2", "c1", "c2", "none"], (key) => textOf(kv, key))
    assert.deepStrictEqual(written, ["saved", "saved", undefined, undefined, "saved", "saved", "saved"])
  }),

  test("a stream is fenced by the locks of the fiber that runs it, wherever it was created", function*(kv) {
    const client = yield* blindClient
    const streamOf = (value: string) => Stream.mapEffect(Stream.make(value), (value) => client.put("k", value))
    const made = { held: streamOf("held"), stale: streamOf("stale") }
    yield* isFenced(kv, client, "l", (value) => Stream.runDrain(made[value as keyof typeof made]), "run inside")
    const stream = yield* on(client)(DistLock.withDistLock(Effect.sync(() => streamOf("outside")), "l"))
    yield* Stream.runDrain(stream)
    assert.strictEqual(yield* textOf(kv, "k"), "outside")
  }),

  test("a finalizer that the body registers is fenced, even if it runs after the release", function*(kv) {
    const client = yield* blindClient
    for (const isUnfenced of [false, true]) {
      let exit: Exit.Exit<unknown, KvError> = Exit.void
      let token = 0n
      const write = Effect.flatMap(Effect.exit(client.put("k", "late")), (result) =>
        Effect.sync(() => {
          exit = result
        }))
      yield* Effect.scoped(DistLock.use("l", (lock) => {
        token = lock.token
        return Effect.addFinalizer(() => isUnfenced ? Fence.unfenced(write) : write)
      })).pipe(on(client))
      if (isUnfenced) assert.isTrue(Exit.isSuccess(exit))
      else isRejectedBy(token, exit, "a finalizer")
      assert.strictEqual(yield* textOf(kv, "k"), isUnfenced ? "late" : undefined)
    }
  })
])
