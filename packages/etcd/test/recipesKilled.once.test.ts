/**
 * Recipes whose process is killed (kill -9) on a real server. What it held is free within its time to live; its waiters
 * continue, or fail with the reason.
 */
import * as Barrier from "@effect-kv/core/Barrier"
import * as Counter from "@effect-kv/core/Counter"
import * as DistRwLock from "@effect-kv/core/DistRwLock"
import * as DistSemaphore from "@effect-kv/core/DistSemaphore"
import * as Election from "@effect-kv/core/Election"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Members from "@effect-kv/core/Members"
import * as RunOnce from "@effect-kv/core/RunOnce"
import * as Slot from "@effect-kv/core/Slot"
import { EtcdCluster } from "@effect-kv/test-suite/verification"
import { assert, layer } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { client } from "./support/client.ts"
import * as lockWorkers from "./support/lockWorkers.ts"
import { recordStalls } from "./support/stalls.ts"

const on = (kv: Kv.Kv) => Effect.provideService(Kv.Kv, kv)

const until = <E>(what: string, condition: Effect.Effect<boolean, E>) =>
  Effect.gen(function*() {
    while (!(yield* condition)) yield* Effect.sleep("20 millis")
  }).pipe(
    Effect.timeoutOrElse({ duration: "20 seconds", orElse: () => Effect.die(new Error(`did not happen: ${what}`)) })
  )

const ttlMillis = 2000

layer(EtcdCluster.layer(), { excludeTestServices: true, timeout: "1 minute" })("when a process is killed", (it) => {
  it.effect("its leadership, permits, read lock, slot, member and run are free within its time to live, and a barrier breaks", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.EtcdCluster
      const kv = yield* client({ endpoints: cluster.endpoints })
      const worker = yield* lockWorkers.start(cluster.endpoints[0]!, "recipes", "k/", ttlMillis)
      const { token } = yield* worker.reported("Held")
      yield* until(
        "it is in the barrier",
        Effect.map(kv.count(KeyRange.prefix("k/barrier/barrier/0/p:")), (count) => count === 1)
      )

      const semaphore = yield* on(kv)(DistSemaphore.make("k/semaphore", { permits: 2 }))
      const reader = yield* Scope.fork(yield* Effect.scope)
      yield* on(kv)(Scope.provide(DistRwLock.acquireRead("k/rwlock"), reader))
      const view = yield* on(kv)(Members.view("k/members", Schema.String))
      const leaders: Array<string> = []
      yield* Election.observe("k/election").pipe(
        Stream.runForEach((leader) =>
          Effect.sync(() => leaders.push(Option.match(leader, { onNone: () => "none", onSome: ({ value }) => value })))
        ),
        on(kv),
        Effect.forkScoped
      )
      yield* until("the observer sees the leader", Effect.sync(() => leaders.length > 0))

      let killedAt = 0
      const stalled = yield* recordStalls
      /** The result, and how long after the kill it came, with the stalls of this process and without. */
      const timed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
        Effect.forkScoped(
          Effect.map(Effect.exit(effect), (exit) => {
            const now = performance.now()
            const millis = now - killedAt
            return { exit, millis, withoutStalls: millis - stalled({ from: killedAt, to: now }) }
          })
        )
      const waiting = {
        successor: yield* timed(
          on(kv)(Election.use("k/election", ({ token }) => Effect.succeed(token), { value: "next" }))
        ),
        permits: yield* timed(Effect.succeed("permits").pipe(semaphore.withPermits(2))),
        slot: yield* timed(
          on(kv)(Slot.use("k/slot", ({ index }) => Effect.succeed(index), { size: 1, acquireTimeout: "1 minute" }))
        ),
        step: yield* timed(on(kv)(RunOnce.forKey("k/step", ({ attempt }) => Effect.succeed(attempt)))),
        barrier: yield* timed(on(kv)(Effect.scoped(Barrier.enter("k/barrier", { parties: 3, id: "b" })))),
        member: yield* timed(
          until("the member is gone", Effect.map(view.snapshot, ({ members }) => members.size === 0))
        )
      }
      const writer = yield* timed(on(kv)(Effect.scoped(DistRwLock.acquireWrite("k/rwlock"))))
      yield* until(
        "all wait",
        Effect.map(
          Effect.all([
            on(kv)(Election.candidates("k/election")),
            semaphore.waiters,
            on(kv)(DistRwLock.contenders("k/rwlock")),
            Effect.map(kv.range(KeyRange.prefix("k/slot/slots/queue/")), ({ entries }) => entries),
            Effect.map(kv.range(KeyRange.prefix("k/barrier/barrier/0/p:")), ({ entries }) => entries)
          ]),
          (all) => all.map(({ length }) => length).join() === "2,1,3,1,2"
        )
      )
      const lease = Option.getOrThrow(
        Option.flatMap(yield* on(kv)(Election.leader("k/election")), (leader) => leader.lease)
      )
      yield* until(
        "its lease has at least half of its time left",
        Effect.suspend(() => {
          killedAt = performance.now()
          return Effect.map(
            backendOf(kv).leaseTimeToLive(lease),
            ({ remaining }) => Duration.toMillis(remaining) >= ttlMillis / 2
          )
        })
      )
      yield* worker.signal("SIGKILL")

      const ended = yield* Effect.all({
        successor: Fiber.join(waiting.successor),
        permits: Fiber.join(waiting.permits),
        slot: Fiber.join(waiting.slot),
        step: Fiber.join(waiting.step),
        barrier: Fiber.join(waiting.barrier),
        member: Fiber.join(waiting.member)
      }, { concurrency: "unbounded" })
      for (const [what, { millis, withoutStalls }] of Object.entries(ended)) {
        assert.isAtLeast(millis, ttlMillis / 2, `${what} waited for the lease`)
        assert.isBelow(withoutStalls, ttlMillis + 3000, what)
      }
      assert.isTrue(Exit.isSuccess(ended.successor.exit) && ended.successor.exit.value > BigInt(token))
      assert.deepStrictEqual(ended.permits.exit, Exit.succeed("permits"))
      assert.deepStrictEqual(ended.slot.exit, Exit.succeed(0))
      assert.deepStrictEqual(ended.step.exit, Exit.succeed(Option.some(2)))
      const broken = Option.getOrUndefined(Exit.findErrorOption(ended.barrier.exit))
      assert.strictEqual(broken?._tag === "BarrierBroken" ? broken.participant : broken?._tag, "killed")
      yield* until("the observer sees the end", Effect.sync(() => leaders.join() === "killed,next,none"))
      assert.strictEqual(yield* on(kv)(Counter.get("k/counter")), 5n)

      // The reader that lives keeps the lock, although the killed one's key is gone.
      yield* until(
        "one reader is left",
        Effect.map(on(kv)(DistRwLock.contenders("k/rwlock")), (all) => all.length === 2)
      )
      assert.isUndefined(writer.pollUnsafe())
      yield* Scope.close(reader, Exit.void)
      assert.isTrue(Exit.isSuccess((yield* Fiber.join(writer)).exit))
    }))

  it.effect("with the server at the same time, what it held is free soon after the server is back", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.EtcdCluster
      const kv = yield* client({ endpoints: cluster.endpoints })
      const worker = yield* lockWorkers.start(cluster.endpoints[0]!, "recipes", "s/", ttlMillis)
      yield* worker.reported("Held")
      const semaphore = yield* on(kv)(DistSemaphore.make("s/semaphore", { permits: 2 }))
      const permits = yield* Effect.forkScoped(
        Effect.succeed("permits").pipe(semaphore.withPermits(1, { ttl: "30 seconds" }))
      )
      const slot = yield* Effect.forkScoped(
        on(kv)(
          Slot.use("s/slot", ({ index }) => Effect.succeed(index), {
            size: 1,
            acquireTimeout: "1 minute",
            ttl: "30 seconds"
          })
        )
      )
      yield* until(
        "both wait",
        Effect.map(
          Effect.all([
            semaphore.waiters,
            Effect.map(kv.range(KeyRange.prefix("s/slot/slots/queue/")), ({ entries }) => entries)
          ]),
          (all) => all.every(({ length }) => length === 1)
        )
      )
      yield* worker.signal("SIGKILL")
      yield* cluster.killAll
      yield* cluster.startAll
      assert.strictEqual(yield* Fiber.join(permits), "permits")
      assert.strictEqual(yield* Fiber.join(slot), 0)
    }))
})
