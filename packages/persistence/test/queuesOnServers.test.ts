/**
 * Persisted queues and circuit breakers on real servers, used by several clients and by a process that is killed.
 */
import * as Kv from "@effect-kv/core/Kv"
import { assert, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as CircuitBreaker from "effect/persistence/CircuitBreaker"
import * as PersistedQueue from "effect/persistence/PersistedQueue"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as ChildProcess from "node:child_process"
import { fileURLToPath } from "node:url"
import * as KvCircuitBreaker from "../src/KvCircuitBreaker.ts"
import * as KvPersistedQueue from "../src/KvPersistedQueue.ts"
import { checked } from "./support/history.ts"
import { Server, servers } from "./support/servers.ts"

const connect = Effect.flatMap(Server, ({ connect }) => connect)

const queueOf = Effect.fnUntraced(function*(
  options: KvPersistedQueue.Options,
  policy?: { readonly maxAttempts?: number; readonly retrySchedule?: Schedule.Schedule<unknown, number> }
) {
  const kv = yield* connect
  const store = yield* Effect.provideService(KvPersistedQueue.makeStore(options), Kv.Kv, kv)
  const factory = yield* Effect.provideService(PersistedQueue.makeFactory, PersistedQueue.PersistedQueueStore, store)
  return { kv, store, queue: yield* factory.make({ name: "jobs", schema: Schema.String, ...policy }) }
})

const worker = fileURLToPath(new URL("./support/queueWorker.ts", import.meta.url))

/** Starts the process, and waits for what it has taken. It is killed when the scope closes. */
const startWorker = Effect.fnUntraced(function*(prefix: string, ttl: number) {
  const { url } = yield* Server
  const taken = yield* Deferred.make<string>()
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const child = ChildProcess.spawn(process.execPath, [worker, url, prefix, `${ttl}`], {
        stdio: ["ignore", "pipe", "inherit"]
      })
      child.stdout.on("data", (chunk) => Deferred.doneUnsafe(taken, Effect.succeed(String(chunk).trim())))
      return child
    }),
    (child) =>
      Effect.callback<void>((resume) => {
        if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
        child.on("close", () => resume(Effect.void))
        child.kill("SIGKILL")
      })
  )
  return { taken: Deferred.await(taken), kill: Effect.sync(() => child.kill("SIGKILL")) }
})

for (const [name, server] of servers) {
  layer(server, { excludeTestServices: true, timeout: "2 minutes" })(`on ${name}`, (it) => {
    it.effect(
      "the item of a killed process is delivered to another one within the time to live, as its second attempt",
      () =>
        Effect.gen(function*() {
          const prefix = "killed/"
          const ttl = Duration.seconds(3)
          const { kv, queue } = yield* queueOf({ prefix, ttl })
          yield* queue.offer("one", { id: "1" })
          const dying = yield* startWorker(prefix, Duration.toMillis(ttl))
          assert.strictEqual(yield* dying.taken, "taken one")
          const redelivered = yield* Effect.forkScoped(
            queue.take((text, { attempts }) => Effect.succeed([text, attempts]))
          )
          yield* dying.kill
          const [took, taken] = yield* Effect.timed(Fiber.join(redelivered))
          assert.deepStrictEqual(taken, ["one", 2])
          // etcd looks for expired leases twice a second. On Postgres, clients wake when the next lease ends.
          assert.isBelow(Duration.toMillis(took), Duration.toMillis(ttl) + 1500)
          assert.deepInclude(yield* checked(kv, prefix), { completed: 1, claims: 2, takenOver: 1 })
        }),
      60_000
    )

    it.effect(
      "each of 300 items that two clients offer and three process is completed once",
      () =>
        Effect.gen(function*() {
          const prefix = "many/"
          const options = { prefix, ttl: "5 seconds" as const }
          const policy = { retrySchedule: Schedule.spaced(0) }
          const clients = yield* Effect.forEach([0, 1, 2], () => queueOf(options, policy))
          const deliveries = new Map<string, number>()
          for (const { queue } of clients) {
            const work = queue.take((text) =>
              Effect.suspend(() => {
                const count = (deliveries.get(text) ?? 0) + 1
                deliveries.set(text, count)
                if (Number(text) % 10 === 0 && count === 1) return Effect.fail("first")
                return Effect.void
              })
            )
            for (let i = 0; i < 8; i++) {
              yield* Effect.forkScoped(Effect.forever(Effect.ignore(work)))
            }
          }
          const items = Array.from({ length: 300 }, (_, i) => `${i}`)
          yield* Effect.forEach(items, (item, i) => clients[i % 2]!.queue.offer(item), {
            concurrency: 50,
            discard: true
          })
          const { kv } = clients[0]!
          const isDone = Effect.map(
            Effect.provideService(KvPersistedQueue.counts("jobs", options), Kv.Kv, kv),
            ({ completed }) => completed === items.length
          )
          yield* Effect.repeat(isDone, { until: (done) => done, schedule: Schedule.spaced("20 millis") })
          for (const item of items) assert.strictEqual(deliveries.get(item), Number(item) % 10 === 0 ? 2 : 1, item)
          assert.deepInclude(yield* checked(kv, prefix), { offered: 300, completed: 300, claims: 330 })
        }),
      60_000
    )

    it.effect(
      "items come in order, are retried and delayed, are accepted once by id, and are cleaned up",
      () =>
        Effect.gen(function*() {
          const prefix = "order/"
          const { kv, queue, store } = yield* queueOf({ prefix }, {
            maxAttempts: 2,
            retrySchedule: Schedule.spaced("50 millis")
          })
          for (const text of ["one", "two", "three"]) yield* queue.offer(text, { id: text })
          yield* queue.offer("again", { id: "one" })
          yield* queue.offer("late", { delay: "3 seconds" })
          const taken: Array<string> = []
          for (let i = 0; i < 4; i++) yield* queue.take((text) => Effect.sync(() => taken.push(text)))
          assert.deepStrictEqual(taken, ["one", "two", "three", "late"])
          yield* queue.offer("bad", { id: "bad" })
          for (let i = 0; i < 2; i++) yield* Effect.flip(queue.take(() => Effect.fail("boom")))
          const [failed] = yield* Effect.provideService(KvPersistedQueue.failed("jobs", { prefix }), Kv.Kv, kv)
          assert.deepInclude(failed, { id: "bad", attempts: 2, element: "bad" })
          yield* store.cleanup({ timeToLive: Duration.zero, failedTimeToLive: Duration.zero })
          const counts = yield* Effect.provideService(KvPersistedQueue.counts("jobs", { prefix }), Kv.Kv, kv)
          assert.deepStrictEqual(counts, { ready: 0, delayed: 0, claimed: 0, completed: 0, failed: 0 })
          yield* queue.offer("once more", { id: "one" })
          assert.strictEqual(yield* queue.take(Effect.succeed), "once more")
          yield* checked(kv, prefix)
        }),
      60_000
    )

    it.effect("a circuit opens for all clients, admits one probe, and closes for all", () =>
      Effect.gen(function*() {
        const breakerOf = Effect.gen(function*() {
          const store = yield* Effect.provideService(
            KvCircuitBreaker.makeStore({ probeLease: "2 seconds" }),
            Kv.Kv,
            yield* connect
          )
          return yield* Effect.provideService(
            CircuitBreaker.make({ tripPolicy: CircuitBreaker.consecutive(2), openDuration: "400 millis" }),
            CircuitBreaker.CircuitBreakerStore,
            store
          )
        })
        const [here, there] = [yield* breakerOf, yield* breakerOf]
        const call = (breaker: CircuitBreaker.CircuitBreaker, effect: Effect.Effect<void, string>) =>
          Effect.exit(breaker.execute(effect, { key: "a" }))
        const untilRejected = (tag: string) =>
          call(there, Effect.void).pipe(
            Effect.repeat({ until: (exit) => Exit.isFailure(exit), schedule: Schedule.spaced("5 millis") }),
            Effect.map((exit) => assert.include(JSON.stringify(exit), tag))
          )
        for (let i = 0; i < 2; i++) yield* call(here, Effect.fail("unavailable"))
        yield* untilRejected("CircuitOpen")
        const end = yield* Deferred.make<void>()
        const probe = yield* Effect.forkScoped(
          call(here, Deferred.await(end)).pipe(
            Effect.repeat({ while: (exit) => Exit.isFailure(exit), schedule: Schedule.spaced("20 millis") })
          )
        )
        const state = there.state("a")
        yield* Effect.repeat(state, { until: ({ _tag }) => _tag === "HalfOpen", schedule: Schedule.spaced("5 millis") })
        yield* untilRejected("CircuitHalfOpen")
        yield* Deferred.succeed(end, undefined)
        yield* Fiber.join(probe)
        assert.strictEqual((yield* state)._tag, "Closed")
        yield* Effect.repeat(call(there, Effect.void), { until: Exit.isSuccess, schedule: Schedule.spaced("5 millis") })
      }), 60_000)
  })
}
