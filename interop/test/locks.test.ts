/**
 * Our lock and Go's `concurrency.Mutex` of the same name are one lock: exclusion, order, loss, death and fencing, in both
 * directions.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as LockError from "@effect-kv/core/LockError"
import { assert, describe, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import { endpoints, EtcdCluster, go, on, ours, server, stillRuns, TcpProxy, until, waiting } from "./support/clients.ts"
import * as holders from "./support/holders.ts"

/** Acquires a lock of ours in a scope of its own. */
const acquire = Effect.fnUntraced(function*(kv: Kv.Kv, name: string, options?: DistLock.AcquireOptions) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const lock = yield* on(kv)(Scope.provide(DistLock.acquire(name, options), scope))
  return { lock, release: Scope.close(scope, Exit.void) }
})

/** What an effect fails with; of a `KvError` the tag of its reason. */
const failure = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.map(Effect.flip(effect), (error) => KvError.isKvError(error) ? error.reason._tag : error)

/** Whether the store has forgotten a lease. */
const isGone = (kv: Kv.Kv, lease: bigint) =>
  backendOf(kv).leaseTimeToLive(lease).pipe(
    Effect.as(false),
    Effect.catchReason("KvError", "LeaseNotFound", () => Effect.succeed(true))
  )

/**
 * Waits until the waiter is admitted after its predecessor died. The store reports how many seconds the predecessor's lease
 * has at least: the admission may not come before they have passed, and must come within the time to live and 2 seconds.
 */
const admittedWithTheLease = Effect.fnUntraced(function*<A, E>(
  kv: Kv.Kv,
  lease: bigint,
  waiter: Fiber.Fiber<A, E>
) {
  const askedAt = performance.now()
  const { grantedTtl, remaining } = yield* backendOf(kv).leaseTimeToLive(lease)
  assert.isAtLeast(Duration.toSeconds(remaining), 1, "else this proves nothing")
  const admitted = yield* Fiber.join(waiter).pipe(
    Effect.timeoutOrElse({
      duration: Duration.sum(grantedTtl, Duration.seconds(20)),
      orElse: () => Effect.die(new Error("the waiter was never admitted"))
    })
  )
  const passed = performance.now() - askedAt
  assert.isAtLeast(passed, Duration.toMillis(remaining))
  assert.isAtMost(passed, Duration.toMillis(grantedTtl) + 2000)
  assert.isTrue(yield* isGone(kv, lease))
  return admitted
})

const leaseOf = (kv: Kv.Kv, name: string) =>
  Effect.map(on(kv)(DistLock.holder(name)), (holder) => Option.getOrThrow(Option.getOrThrow(holder).lease))

layer(server, { excludeTestServices: true, timeout: "2 minutes" })((it) => {
  describe("exclusion", () => {
    it.effect("Go's Mutex waits while we hold the lock, and has it after our release", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const client = yield* go()
        const session = yield* client.session({ ttl: 60 })
        // Not of the session that waits: Go's TryLock would delete the key of that one.
        const other = yield* client.session({ ttl: 60 })
        const { lock, release } = yield* acquire(kv, "go-waits")
        const theirs = yield* Effect.forkScoped(session.lock("go-waits"))
        yield* waiting(kv, "go-waits", 1)
        assert.isTrue(yield* stillRuns(kv, theirs))
        assert.match((yield* Effect.flip(other.tryLock("go-waits"))).message, /Locked by another session/)
        // The same layout as Go's: on one lease a lock has one key.
        assert.strictEqual(lock.key, `go-waits/${(yield* leaseOf(kv, "go-waits")).toString(16)}`)
        yield* release
        const held = yield* Fiber.join(theirs)
        assert.strictEqual(held.key, `go-waits/${session.lease.toString(16)}`)
        assert.isTrue(held.token > lock.token)
        const holder = Option.getOrThrow(yield* on(kv)(DistLock.holder("go-waits")))
        assert.deepStrictEqual([holder.key, holder.token, holder.lease], [
          held.key,
          held.token,
          Option.some(session.lease)
        ])
      }))

    it.effect("we wait while Go's Mutex is held, and have it after its release", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const session = yield* (yield* go()).session({ ttl: 60 })
        const held = yield* session.lock("we-wait")
        assert.deepStrictEqual(yield* Effect.scoped(on(kv)(DistLock.tryAcquire("we-wait"))), Option.none())
        assert.instanceOf(
          yield* failure(on(kv)(DistLock.withDistLock(Effect.void, "we-wait", { acquireTimeout: "100 millis" }))),
          LockError.LockTimeout
        )
        const waiter = yield* Effect.forkScoped(acquire(kv, "we-wait"))
        yield* waiting(kv, "we-wait", 1)
        assert.isTrue(yield* stillRuns(kv, waiter))
        yield* session.unlock("we-wait")
        const { lock } = yield* Fiber.join(waiter)
        assert.isTrue(lock.token > held.token)
      }))

    it.effect("Go's TryLock fails while we hold the lock, leaves no key, and succeeds afterwards", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const session = yield* (yield* go()).session({ ttl: 60 })
        const { release } = yield* acquire(kv, "try")
        assert.match((yield* Effect.flip(session.tryLock("try"))).message, /Locked by another session/)
        assert.strictEqual(yield* kv.count(KeyRange.prefix("try/")), 1)
        yield* release
        yield* session.tryLock("try")
        assert.deepStrictEqual(yield* Effect.scoped(on(kv)(DistLock.tryAcquire("try"))), Option.none())
        yield* session.unlock("try")
        assert.isTrue(Option.isSome(yield* Effect.scoped(on(kv)(DistLock.tryAcquire("try")))))
      }))

    it.effect("two fibers of one client of ours are two contenders to Go", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const session = yield* (yield* go()).session({ ttl: 60 })
        const first = yield* acquire(kv, "fibers")
        const second = yield* Effect.forkScoped(acquire(kv, "fibers"))
        yield* waiting(kv, "fibers", 1)
        const theirs = yield* Effect.forkScoped(session.lock("fibers"))
        yield* waiting(kv, "fibers", 2)
        yield* first.release
        const { lock, release } = yield* Fiber.join(second)
        assert.isTrue(yield* stillRuns(kv, theirs))
        yield* release
        assert.isTrue((yield* Fiber.join(theirs)).token > lock.token)
      }))

    it.effect("in a namespace of ours the lock is Go's Mutex with the prefix before its name", () =>
      Effect.gen(function*() {
        const inside = yield* ours({ prefix: "app/" })
        const session = yield* (yield* go()).session({ ttl: 60 })
        yield* session.lock("app/jobs")
        assert.deepStrictEqual(yield* Effect.scoped(on(inside)(DistLock.tryAcquire("jobs"))), Option.none())
        yield* session.unlock("app/jobs")
        yield* acquire(inside, "jobs")
        assert.match((yield* Effect.flip(session.tryLock("app/jobs"))).message, /Locked by another session/)
      }))

    it.effect("a lock a/b is in the way of Go's Mutex a, as Go's own are, but not of our lock a", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const session = yield* (yield* go()).session({ ttl: 60 })
        const other = yield* (yield* go()).session({ ttl: 60 })
        yield* acquire(kv, "below/b")
        assert.match((yield* Effect.flip(session.tryLock("below"))).message, /Locked by another session/)
        assert.isTrue(Option.isSome(yield* Effect.scoped(on(kv)(DistLock.tryAcquire("below")))))
        yield* other.lock("beside/b")
        assert.match((yield* Effect.flip(session.tryLock("beside"))).message, /Locked by another session/)
        assert.isTrue(Option.isSome(yield* Effect.scoped(on(kv)(DistLock.tryAcquire("beside")))))
      }))

    it.effect(
      "a counter that four clients of each side increment under the lock loses no increment",
      () =>
        Effect.gen(function*() {
          const each = 20
          const theirs = Effect.gen(function*() {
            const session = yield* (yield* go()).session({ ttl: 60 })
            yield* session.count("count", "counter", each)
          })
          const mine = Effect.gen(function*() {
            const kv = yield* ours()
            // Read and written in two steps: only the lock makes it right.
            const increment = Effect.gen(function*() {
              const number = Number(Option.getOrElse(yield* kv.get("counter"), () => "0"))
              yield* kv.put("counter", `${number + 1}`)
            })
            yield* Effect.replicateEffect(on(kv)(DistLock.withDistLock(increment, "count")), each)
          })
          yield* Effect.all([theirs, mine, theirs, mine, theirs, mine, theirs, mine], { concurrency: "unbounded" })
          const kv = yield* ours()
          const counter = Option.getOrThrow(yield* kv.getEntry("counter"))
          assert.deepStrictEqual([counter.lossyText, counter.version], [`${8 * each}`, 8 * each])
          assert.strictEqual(yield* kv.count(KeyRange.prefix("count/")), 0)
        }),
      120_000
    )
  })

  describe("order", () => {
    for (const first of ["ours", "go"] as const) {
      it.effect(
        `contenders of both sides are admitted in the order they came, the first one ${first}`,
        () =>
          Effect.gen(function*() {
            const name = `order-${first}`
            const kv = yield* ours()
            const admitted: Array<number> = []
            const contend = Effect.fnUntraced(function*(i: number, side: "ours" | "go") {
              const proceed = yield* Deferred.make<void>()
              const work = Effect.andThen(Effect.sync(() => admitted.push(i)), Deferred.await(proceed))
              if (side === "ours") {
                const client = yield* ours()
                yield* Effect.forkScoped(on(client)(DistLock.withDistLock(work, name)))
              } else {
                const session = yield* (yield* go()).session({ ttl: 60 })
                yield* Effect.forkScoped(
                  session.lock(name).pipe(Effect.andThen(work), Effect.andThen(session.unlock(name)))
                )
              }
              yield* until(
                `contender ${i} is in the queue`,
                Effect.map(kv.count(KeyRange.prefix(`${name}/`)), (count) => count === i + 1)
              )
              return Deferred.succeed(proceed, undefined)
            })
            const second = first === "ours" ? "go" : "ours"
            const sides = [first, second, first, first, second, second, first, second] as const
            const releases = yield* Effect.forEach(sides, (side, i) => contend(i, side))
            for (const [i, release] of releases.entries()) {
              yield* until(`contender ${i} is admitted`, Effect.sync(() => admitted.length > i))
              assert.deepStrictEqual(admitted, sides.slice(0, i + 1).map((_, i) => i))
              yield* release
            }
            yield* until(
              "the queue is empty",
              Effect.map(kv.count(KeyRange.prefix(`${name}/`)), (count) => count === 0)
            )
          }),
        60_000
      )
    }
  })

  describe("loss", () => {
    it.effect("the revocation of our holder's lease admits Go, and we learn of the loss", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const client = yield* go()
        const session = yield* client.session({ ttl: 60 })
        let holds = false
        const body = Effect.andThen(Effect.sync(() => holds = true), Effect.never)
        const holding = yield* Effect.forkScoped(on(kv)(DistLock.withDistLock(body, "our-loss")))
        yield* until("we hold it", Effect.sync(() => holds))
        const theirs = yield* Effect.forkScoped(session.lock("our-loss"))
        yield* waiting(kv, "our-loss", 1)
        yield* client.revoke(yield* leaseOf(kv, "our-loss"))
        const { key } = yield* Fiber.join(theirs)
        assert.instanceOf(yield* failure(Fiber.join(holding)), LockError.LockLost)
        assert.strictEqual(Option.getOrThrow(yield* on(kv)(DistLock.holder("our-loss"))).key, key)
      }))

    it.effect("the revocation of Go's lease admits us, and Go's session ends", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const session = yield* (yield* go()).session({ ttl: 3 })
        const held = yield* session.lock("their-loss")
        const waiter = yield* Effect.forkScoped(acquire(kv, "their-loss"))
        yield* waiting(kv, "their-loss", 1)
        yield* backendOf(kv).leaseRevoke(session.lease)
        const { lock } = yield* Fiber.join(waiter)
        assert.isTrue(lock.token > held.token)
        yield* session.done
        assert.isTrue(yield* lock.isHeld)
      }))

    it.effect("a Go waiter whose lease is revoked does not let us pass the holder", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const client = yield* go()
        const session = yield* client.session({ ttl: 3 })
        const holder = yield* acquire(yield* ours(), "go-in-the-middle")
        const middle = yield* Effect.forkScoped(Effect.exit(session.lock("go-in-the-middle")))
        yield* waiting(kv, "go-in-the-middle", 1)
        const last = yield* Effect.forkScoped(acquire(kv, "go-in-the-middle"))
        yield* waiting(kv, "go-in-the-middle", 2)
        yield* client.revoke(session.lease)
        yield* waiting(kv, "go-in-the-middle", 1)
        assert.isTrue(yield* stillRuns(kv, last))
        yield* holder.release
        yield* Fiber.join(last)
        // What Go makes of it: it is not given the lock.
        assert.isTrue(Exit.isFailure(yield* Fiber.join(middle)))
      }))

    it.effect("a waiter of ours whose lease is revoked does not let Go pass the holder, and fails", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const session = yield* (yield* go()).session({ ttl: 60 })
        const holder = yield* acquire(kv, "ours-in-the-middle")
        const middle = yield* Effect.forkScoped(acquire(yield* ours(), "ours-in-the-middle"))
        yield* waiting(kv, "ours-in-the-middle", 1)
        const [contender] = yield* on(kv)(DistLock.waiters("ours-in-the-middle"))
        const last = yield* Effect.forkScoped(session.lock("ours-in-the-middle"))
        yield* waiting(kv, "ours-in-the-middle", 2)
        yield* backendOf(kv).leaseRevoke(Option.getOrThrow(contender!.lease))
        assert.instanceOf(yield* failure(Fiber.join(middle)), LockError.LockLost)
        assert.isTrue(yield* stillRuns(kv, last))
        yield* holder.release
        yield* Fiber.join(last)
      }))

    it.effect("a Go session that is closed admits us at once", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const session = yield* (yield* go()).session({ ttl: 60 })
        yield* session.lock("closed")
        const waiter = yield* Effect.forkScoped(acquire(kv, "closed"))
        yield* waiting(kv, "closed", 1)
        yield* session.close
        // Long before the lease of 60 seconds could expire.
        yield* Fiber.join(waiter)
        assert.isTrue(yield* isGone(kv, session.lease))
      }))

    it.effect("a Go session that is orphaned admits us after its time to live, and not before", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const session = yield* (yield* go()).session({ ttl: 4 })
        yield* session.lock("orphaned")
        const waiter = yield* Effect.forkScoped(acquire(kv, "orphaned"))
        yield* waiting(kv, "orphaned", 1)
        yield* session.orphan
        yield* admittedWithTheLease(kv, session.lease, waiter)
      }))

    it.effect("our holder that is cut off from the store has stopped before Go is admitted", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const [endpoint] = yield* endpoints
        const session = yield* (yield* go()).session({ ttl: 60 })
        const proxy = yield* TcpProxy.make({ target: endpoint! })
        const cutOff = yield* ours({ endpoints: [proxy.endpoint] })
        const stopped: { at?: number } = {}
        let holds = false
        const body = Effect.andThen(Effect.sync(() => holds = true), Effect.never).pipe(
          Effect.ensuring(Effect.sync(() => stopped.at = performance.now()))
        )
        const holding = yield* Effect.forkScoped(
          on(cutOff)(DistLock.withDistLock(body, "cut-off", { ttl: "4 seconds" }))
        )
        yield* until("we hold it", Effect.sync(() => holds))
        const theirs = yield* Effect.forkScoped(
          Effect.andThen(session.lock("cut-off"), Effect.sync(() => performance.now()))
        )
        yield* waiting(kv, "cut-off", 1)
        yield* proxy.blackhole()
        assert.instanceOf(yield* failure(Fiber.join(holding)), LockError.LockLost)
        const admittedAt = yield* Fiber.join(theirs)
        assert.isBelow(stopped.at!, admittedAt)
        yield* proxy.heal
      }))

    for (const first of ["ours", "go"] as const) {
      it.effect(`the queue outlives a kill -9 and a restart of the server, the holder being ${first}`, () =>
        Effect.gen(function*() {
          const name = `restart-${first}`
          const cluster = yield* EtcdCluster.make()
          const kv = yield* ours({ endpoints: cluster.endpoints })
          const session = yield* (yield* go({ endpoints: cluster.endpoints })).session({ ttl: 60 })
          const mine = acquire(kv, name, { ttl: "60 seconds" })
          const theirs = session.lock(name)
          const holding = first === "ours" ? yield* mine : { ...yield* theirs, release: session.unlock(name) }
          const waiter = yield* Effect.forkScoped(
            Effect.asVoid<unknown, unknown, Scope.Scope>(first === "ours" ? theirs : mine)
          )
          yield* waiting(kv, name, 1)
          yield* cluster.member.restart
          assert.isTrue(yield* stillRuns(kv, waiter))
          yield* holding.release
          yield* Fiber.join(waiter)
          assert.strictEqual(yield* kv.count(KeyRange.prefix(`${name}/`)), 1)
        }))
    }

    it.effect("our client closes at once and admits Go", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const session = yield* (yield* go()).session({ ttl: 60 })
        const scope = yield* Scope.make()
        const closing = yield* Scope.provide(ours(), scope)
        yield* on(closing)(Scope.provide(DistLock.acquire("we-close", { ttl: "60 seconds" }), scope))
        const lease = yield* leaseOf(kv, "we-close")
        const theirs = yield* Effect.forkScoped(session.lock("we-close"))
        yield* waiting(kv, "we-close", 1)
        yield* Scope.close(scope, Exit.void)
        yield* Fiber.join(theirs)
        assert.isTrue(yield* isGone(kv, lease))
      }))
  })

  describe("death", () => {
    it.effect("kill -9 of a Go holder admits us after its time to live, and not before", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const client = yield* go()
        const session = yield* client.session({ ttl: 4 })
        const held = yield* session.lock("go-killed")
        const waiter = yield* Effect.forkScoped(acquire(kv, "go-killed"))
        yield* waiting(kv, "go-killed", 1)
        yield* client.program.signal("SIGKILL")
        yield* client.program.gone
        const { lock } = yield* admittedWithTheLease(kv, session.lease, waiter)
        assert.isTrue(lock.token > held.token)
      }))

    it.effect(
      "kill -9 of a Node holder admits Go after its time to live, and not before",
      () =>
        Effect.gen(function*() {
          const kv = yield* ours()
          const [endpoint] = yield* endpoints
          const session = yield* (yield* go()).session({ ttl: 60 })
          const holder = yield* holders.start(endpoint!, "node-killed", 4000)
          const theirs = yield* Effect.forkScoped(session.lock("node-killed"))
          yield* waiting(kv, "node-killed", 1)
          const lease = yield* leaseOf(kv, "node-killed")
          yield* holder.kill
          const held = yield* admittedWithTheLease(kv, lease, theirs)
          assert.isTrue(held.token > holder.token)
        }),
      90_000
    )

    it.effect("kill -9 of a Go waiter does not let us pass the holder, and is passed over when its lease ends", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const client = yield* go()
        const session = yield* client.session({ ttl: 4 })
        const holder = yield* acquire(kv, "go-waiter-killed")
        yield* Effect.forkScoped(Effect.exit(session.lock("go-waiter-killed")))
        yield* waiting(kv, "go-waiter-killed", 1)
        const last = yield* Effect.forkScoped(acquire(yield* ours(), "go-waiter-killed"))
        yield* waiting(kv, "go-waiter-killed", 2)
        yield* client.program.signal("SIGKILL")
        yield* client.program.gone
        yield* holder.release
        yield* admittedWithTheLease(kv, session.lease, last)
      }))

    it.effect("a Go holder that is stopped beyond its time finds its Mutex lost when it resumes", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const client = yield* go()
        const session = yield* client.session({ ttl: 2 })
        yield* session.lock("go-stopped")
        const waiter = yield* Effect.forkScoped(acquire(kv, "go-stopped"))
        yield* waiting(kv, "go-stopped", 1)
        yield* client.program.signal("SIGSTOP")
        const { lock } = yield* Fiber.join(waiter)
        yield* client.program.signal("SIGCONT")
        yield* session.done
        assert.isFalse((yield* session.putIfOwner("go-stopped", "go-stopped.written", "stale")).succeeded)
        assert.deepStrictEqual(yield* kv.get("go-stopped.written"), Option.none())
        assert.isTrue(yield* lock.isHeld)
      }))
  })

  describe("fencing", () => {
    it.effect("after the loss our fenced write is rejected while Go, the next holder, writes", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const client = yield* go()
        const session = yield* client.session({ ttl: 60 })
        const lock = (yield* acquire(kv, "fenced")).lock
        const fenced = DistLock.fence(kv, lock)
        yield* fenced.put("fenced.value", "ours")
        const theirs = yield* Effect.forkScoped(session.lock("fenced"))
        yield* waiting(kv, "fenced", 1)
        yield* client.revoke(yield* leaseOf(kv, "fenced"))
        yield* Fiber.join(theirs)
        yield* client.put("fenced.value", "Go's")
        for (
          const write of [
            fenced.put("fenced.value", "stale"),
            fenced.delete("fenced.value"),
            fenced.testAndSet("fenced.value", Option.some("Go's"), "stale"),
            fenced.modify("fenced.value", () => "stale")
          ]
        ) {
          assert.strictEqual(yield* failure<unknown, unknown>(write), "LockLost")
        }
        const entry = Option.getOrThrow(yield* kv.getEntry("fenced.value"))
        assert.deepStrictEqual([entry.lossyText, entry.version], ["Go's", 2])
      }))

    it.effect("Go's plain write after its loss is applied, its write with IsOwner is not, and ours under our lock is", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const client = yield* go()
        const session = yield* client.session({ ttl: 60 })
        yield* session.lock("owner")
        assert.isTrue((yield* session.putIfOwner("owner", "owner.value", "Go's")).succeeded)
        const waiter = yield* Effect.forkScoped(acquire(kv, "owner"))
        yield* waiting(kv, "owner", 1)
        yield* backendOf(kv).leaseRevoke(session.lease)
        const { lock } = yield* Fiber.join(waiter)
        yield* DistLock.fence(kv, lock).put("owner.value", "ours")
        assert.isFalse((yield* session.putIfOwner("owner", "owner.value", "stale")).succeeded)
        assert.deepStrictEqual(yield* kv.get("owner.value"), Option.some("ours"))
        // Nothing but the condition protects the store: this is what a Mutex alone does not prevent.
        yield* client.put("owner.value", "stale")
        assert.deepStrictEqual(yield* kv.get("owner.value"), Option.some("stale"))
      }))

    it.effect("a write under our lock is rejected when Go has deleted the lock's key", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const client = yield* go()
        const lost = yield* failure(
          on(kv)(
            DistLock.use("deleted", ({ key }) => Effect.andThen(client.delete(key), kv.put("deleted.value", "stale")))
          )
        )
        assert.instanceOf(lost, LockError.LockLost)
        assert.deepStrictEqual(yield* kv.get("deleted.value"), Option.none())
      }))
  })

  describe("elections", () => {
    it.effect("Go's Election of the same name stands in the lock's queue", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const client = yield* go()
        const session = yield* client.session({ ttl: 60 })
        const { lock, release } = yield* acquire(kv, "election", { description: "ours" })
        const observer = yield* client.session({ ttl: 60 })
        const leaders = yield* observer.observe("election")
        assert.strictEqual(Buffer.from((yield* Queue.take(leaders)).value).toString(), "ours")
        const campaign = yield* Effect.forkScoped(session.campaign("election", "Go's"))
        yield* waiting(kv, "election", 1)
        assert.isTrue(yield* stillRuns(kv, campaign))
        yield* release
        const leader = yield* Fiber.join(campaign)
        assert.isTrue(leader.token > lock.token)
        assert.strictEqual((yield* Queue.take(leaders)).createRevision, leader.token)
        yield* session.proclaim("election", "again")
        const holder = Option.getOrThrow(yield* on(kv)(DistLock.holder("election")))
        assert.deepStrictEqual([holder.token, holder.description], [leader.token, "again"])
        yield* session.resign("election")
        assert.isTrue(Option.isSome(yield* Effect.scoped(on(kv)(DistLock.tryAcquire("election")))))
      }))
  })
})
