/**
 * Locks and temporary keys on a real etcd, used by several processes and by `etcdctl`.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as TempKey from "@effect-kv/core/TempKey"
import { EtcdBinaries, EtcdCluster, TcpProxy } from "@effect-kv/test-suite/verification"
import { assert, layer } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import { client } from "./support/client.ts"
import * as lockWorkers from "./support/lockWorkers.ts"
import { timedWithoutStalls, unlessStalled } from "./support/stalls.ts"

const on = (kv: Kv.Kv) => Effect.provideService(Kv.Kv, kv)

const until = <E, R>(what: string, condition: Effect.Effect<boolean, E, R>) =>
  Effect.gen(function*() {
    while (!(yield* condition)) yield* Effect.sleep("5 millis")
  }).pipe(
    Effect.timeoutOrElse({
      duration: "50 seconds",
      orElse: () => Effect.die(new Error(`timed out waiting until ${what}`))
    })
  )

const waitersOf = (kv: Kv.Kv, name: string) => Effect.map(on(kv)(DistLock.waiters(name)), (waiters) => waiters.length)

const isHeld = (kv: Kv.Kv, name: string) => Effect.map(on(kv)(DistLock.holder(name)), Option.isSome)

/** `etcdctl lock`, which holds the lock until its scope closes. `key` is the key it prints once it holds the lock. */
const etcdctlLock = Effect.fnUntraced(function*(endpoint: string, name: string) {
  const { etcdctl } = yield* EtcdBinaries.current
  let printed = ""
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const child = ChildProcess.spawn(etcdctl, [`--endpoints=${endpoint}`, "lock", "--ttl=5", name], {
        env: { ...process.env, ETCDCTL_API: "3" }
      })
      child.stdout.on("data", (chunk) => printed += String(chunk))
      return child
    }),
    (child) =>
      Effect.callback<void>((resume) => {
        child.on("close", () => resume(Effect.void))
        // On SIGTERM it releases the lock.
        if (!child.kill("SIGTERM")) resume(Effect.void)
      })
  )
  return { key: Effect.sync(() => printed.trim()), pid: child.pid }
})

layer(EtcdCluster.layer(), { excludeTestServices: true, timeout: "2 minutes" })("locks on etcd", (it) => {
  it.effect("etcdctl lock waits for our lock, and we wait for its lock", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.EtcdCluster
      const [endpoint] = cluster.endpoints
      const kv = yield* client({ endpoints: cluster.endpoints })
      const ours = yield* Scope.make()
      yield* on(kv)(Scope.provide(DistLock.acquire("both"), ours))
      const theirScope = yield* Scope.make()
      const theirs = yield* Scope.provide(etcdctlLock(endpoint!, "both"), theirScope)
      yield* until("etcdctl waits", Effect.map(waitersOf(kv, "both"), (count) => count === 1))
      assert.strictEqual(yield* theirs.key, "", "etcdctl does not hold the lock while we do")
      yield* Scope.close(ours, Exit.void)
      yield* until("etcdctl has it", Effect.map(theirs.key, (key) => key !== ""))
      assert.strictEqual(Option.getOrThrow(yield* on(kv)(DistLock.holder("both"))).key, yield* theirs.key)

      const waiter = yield* Effect.forkScoped(
        on(kv)(DistLock.use("both", (lock) => Effect.succeed(lock)))
      )
      yield* until("we wait", Effect.map(waitersOf(kv, "both"), (count) => count === 1))
      assert.strictEqual(waiter.pollUnsafe(), undefined)
      assert.isTrue(Option.isNone(yield* Effect.scoped(on(kv)(DistLock.tryAcquire("both")))))
      yield* Scope.close(theirScope, Exit.void)
      const lock = yield* Fiber.join(waiter)
      assert.match(lock.key, /^both\/[0-9a-f]+$/)
      assert.strictEqual(yield* kv.count(KeyRange.prefix("both")), 0)
    }))

  it.effect("the next holder starts within milliseconds after a release", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.EtcdCluster
      const holder = yield* client({ endpoints: cluster.endpoints })
      const waiter = yield* client({ endpoints: cluster.endpoints })
      const handOver = Effect.gen(function*() {
        const [put] = yield* Effect.timed(holder.put("put", "1"))
        const scope = yield* Scope.make()
        yield* on(holder)(Scope.provide(DistLock.acquire("handed-over"), scope))
        const next = yield* Effect.forkScoped(
          on(waiter)(DistLock.withDistLock(Effect.sync(() => performance.now()), "handed-over"))
        )
        yield* until("the next waits", Effect.map(waitersOf(holder, "handed-over"), (count) => count === 1))
        yield* Effect.sleep("20 millis")
        const released = performance.now()
        yield* Scope.close(scope, Exit.void)
        return { put: Duration.toMillis(put), handOver: (yield* Fiber.join(next)) - released }
      })
      const times = yield* Effect.replicateEffect(handOver, 21)
      const median = (millis: Array<number>) => millis.sort((a, b) => a - b)[10]!
      // etcd wakes the watches of Go clients every 100 ms, so they take 50 ms on average. A put shows how busy the
      // machine is.
      assert.isBelow(
        median(times.map(({ handOver }) => handOver)),
        15 + 10 * median(times.map(({ put }) => put))
      )
    }))

  it.effect(
    "on a cut connection the holder knows of the loss before the server deletes the key, in 20 runs of 20",
    () =>
      Effect.gen(function*() {
        const cluster = yield* EtcdCluster.EtcdCluster
        const observer = yield* client({ endpoints: cluster.endpoints })
        // The worst timer delay on this machine.
        let late = 0
        yield* Effect.forkScoped(Effect.forever(Effect.suspend(() => {
          const due = Date.now() + 20
          return Effect.andThen(Effect.sleep(20), Effect.sync(() => late = Math.max(late, Date.now() - due)))
        })))
        const run = Effect.fnUntraced(function*(i: number) {
          const name = `cut-${i}`
          const proxy = yield* TcpProxy.make({ target: cluster.endpoints[0]! })
          const kv = yield* client({ endpoints: [proxy.endpoint] })
          let holds = false
          let finalized = false
          const body = Effect.andThen(Effect.sync(() => holds = true), Effect.never)
          const held = yield* Effect.forkScoped(
            on(kv)(DistLock.withDistLock(
              Effect.ensuring(body, Effect.sync(() => finalized = true)),
              name,
              { ttl: "3 seconds" }
            ))
          )
          yield* until("it holds", Effect.sync(() => holds))
          const next = yield* Effect.forkScoped(
            on(observer)(
              DistLock.use(name, (lock) => Effect.succeed([lock.token, Date.now()] as const))
            )
          )
          const holder = Option.getOrThrow(yield* on(observer)(DistLock.holder(name)))
          const watch = yield* backendOf(observer).watch({ range: KeyRange.key(holder.key), only: "Delete" })
          const deletion = yield* Effect.forkScoped(Effect.andThen(watch.take, Effect.sync(() => Date.now())))
          // A random moment between two renewals.
          yield* Effect.sleep(60 * i)
          const cutAt = Date.now()
          if (i % 2 === 0) yield* proxy.down
          else yield* proxy.blackhole()
          const exit = yield* Fiber.await(held)
          const knownAt = Date.now()
          const deletedAt = yield* Fiber.join(deletion)
          assert.isTrue(finalized)
          const [reason] = Exit.isFailure(exit) ? exit.cause.reasons : []
          const error = reason?._tag === "Fail" ? reason.error : undefined
          assert.strictEqual(error?._tag, "LockLost")
          assert.isAtMost(knownAt - cutAt, 3050 + 2 * late)
          assert.isBelow(knownAt, deletedAt, `run ${i}`)
          const [token, tokenAt] = yield* Fiber.join(next)
          assert.isTrue(token > holder.token)
          yield* proxy.heal
          return { before: deletedAt - knownAt, takeOver: tokenAt - cutAt }
        })
        const runs = yield* Effect.forEach(
          Array.from({ length: 20 }, (_, i) => i),
          (i) => unlessStalled(3000)(Effect.scoped(run(i))),
          { concurrency: 20 }
        )
        assert.strictEqual(runs.length, 20)
      }),
    180_000
  )

  it.effect("a process paused past its TTL finds its lock lost, and the next holder has a larger token", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.EtcdCluster
      const kv = yield* client({ endpoints: cluster.endpoints })
      const worker = yield* lockWorkers.start(cluster.endpoints[0]!, "hold", "stopped", 2000)
      const { token } = yield* worker.reported("Held")
      yield* worker.signal("SIGSTOP")
      const next = yield* on(kv)(DistLock.acquire("stopped"))
      assert.isTrue(next.token > BigInt(token))
      yield* worker.signal("SIGCONT")
      const ended = yield* worker.reported("Ended")
      assert.strictEqual(ended.how, "LockLost")
      assert.deepStrictEqual(worker.lines.map((line) => line._tag), ["Held", "Finalized", "Ended"])
      assert.isTrue(yield* next.isHeld)
      yield* worker.stop
    }))

  it.effect("a holder whose event loop was blocked past its TTL has its next fenced write rejected and is interrupted", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.EtcdCluster
      const kv = yield* client({ endpoints: cluster.endpoints })
      const worker = yield* lockWorkers.start(cluster.endpoints[0]!, "block", "blocked", 2000)
      const { token } = yield* worker.reported("Held")
      const next = yield* on(kv)(DistLock.acquire("blocked"))
      assert.isTrue(next.token > BigInt(token))
      assert.strictEqual((yield* worker.reported("Rejected")).how, "LockLost")
      assert.strictEqual((yield* worker.reported("Ended")).how, "LockLost")
      assert.deepStrictEqual(yield* kv.get("blocked.stale"), Option.none())
      yield* worker.stop
    }))

  it.effect("a killed process's lock and temporary key are gone within its TTL and 2 seconds", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.EtcdCluster
      const kv = yield* client({ endpoints: cluster.endpoints })
      const holder = yield* lockWorkers.start(cluster.endpoints[0]!, "hold", "killed", 2000)
      const temporary = yield* lockWorkers.start(cluster.endpoints[0]!, "temporaryKey", "killed.temp", 2000)
      yield* holder.reported("Held")
      yield* temporary.reported("Held")
      const next = yield* Effect.forkScoped(on(kv)(DistLock.acquire("killed")))
      yield* until("the next waits", Effect.map(waitersOf(kv, "killed"), (count) => count === 1))
      const [elapsed] = yield* timedWithoutStalls(Effect.gen(function*() {
        yield* holder.signal("SIGKILL")
        yield* temporary.signal("SIGKILL")
        yield* Fiber.join(next)
        yield* until("the key is gone", Effect.map(kv.get("killed.temp"), Option.isNone))
      }))
      assert.isBelow(elapsed, 4000)
    }))

  it.effect("a process that exits in an orderly way leaves nothing behind, immediately", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.EtcdCluster
      const kv = yield* client({ endpoints: cluster.endpoints })
      const holder = yield* lockWorkers.start(cluster.endpoints[0]!, "hold", "ends", 60_000)
      const temporary = yield* lockWorkers.start(cluster.endpoints[0]!, "temporaryKey", "ends.temp", 60_000)
      yield* holder.reported("Held")
      yield* temporary.reported("Held")
      yield* Effect.all([holder.stop, temporary.stop], { concurrency: 2 })
      assert.strictEqual(yield* kv.count(KeyRange.prefix("ends")), 0)
      assert.isFalse(yield* isHeld(kv, "ends"))
    }))

  it.effect("an attempt leaves no key if the network loses the response to any one of its requests", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.EtcdCluster
      const kv = yield* client({ endpoints: cluster.endpoints })
      const attempt = Effect.fnUntraced(function*(request: string) {
        const name = `lost-response-${request}`
        const proxy = yield* TcpProxy.make({ target: cluster.endpoints[0]! })
        const scope = yield* Scope.make()
        const cutOff = yield* Scope.provide(client({ endpoints: [proxy.endpoint] }), scope)
        yield* cutOff.get("connected")
        if (request !== "LeaseGrant") yield* Scope.provide(on(cutOff)(TempKey.make(`${name}.session`)), scope)
        // The request's own bytes select it. In the other case the grant is the only request in flight.
        const when = request === "LeaseGrant" ? undefined : TcpProxy.contains(`${name}/`)
        const armed = yield* proxy.cutAfterForwarding({ when })
        yield* Effect.exit(on(cutOff)(DistLock.withDistLock(Effect.void, name)))
        yield* armed.struck
        yield* Scope.close(scope, Exit.void)
        return name
      })
      const attempts = yield* Effect.forEach(["LeaseGrant", "Txn"], (request) => Effect.scoped(attempt(request)), {
        concurrency: 2
      })
      for (const name of attempts) {
        yield* until(`${name} is free`, Effect.map(kv.count(KeyRange.prefix(`${name}/`)), (count) => count === 0))
        assert.isTrue(Option.isSome(yield* Effect.scoped(on(kv)(DistLock.tryAcquire(name)))))
      }
    }))
})
