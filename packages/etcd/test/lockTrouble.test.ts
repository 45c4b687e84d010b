/**
 * Locks on a real etcd that stops responding or withdraws a permission.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import * as LockError from "@effect-kv/core/LockError"
import * as TempKey from "@effect-kv/core/TempKey"
import { EtcdCluster } from "@effect-kv/test-suite/verification"
import { assert, layer } from "@effect/vitest"
import * as Array from "effect/Array"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import { fileURLToPath } from "node:url"
import { client } from "./support/client.ts"
import { timedWithoutStalls } from "./support/stalls.ts"

const on = (kv: Kv.Kv) => Effect.provideService(Kv.Kv, kv)

const until = <E, R>(what: string, condition: Effect.Effect<boolean, E, R>) =>
  Effect.gen(function*() {
    while (!(yield* condition)) yield* Effect.sleep("20 millis")
  }).pipe(
    Effect.timeoutOrElse({
      duration: "30 seconds",
      orElse: () => Effect.die(new Error(`timed out waiting until ${what}`))
    })
  )

/** Milliseconds that a loaded machine may add to a bound. */
const slack = 700

layer(EtcdCluster.layer(), { excludeTestServices: true, timeout: "2 minutes" })(
  "locks on an etcd that is stopped",
  (it) => {
    const newClient = Effect.flatMap(EtcdCluster.EtcdCluster, ({ endpoints }) => client({ endpoints }))

    /** Runs the effect while the server is stopped. */
    const whileStopped = Effect.fnUntraced(function*<A, E, R>(effect: Effect.Effect<A, E, R>) {
      const [member] = (yield* EtcdCluster.EtcdCluster).members
      yield* member!.pause
      return yield* Effect.ensuring(effect, Effect.orDie(member!.resume))
    })

    /** How long it takes, on a stopped server, to close a scope with what was made in it, and then the client. */
    const ending = Effect.fnUntraced(function*(make: Effect.Effect<unknown, unknown, Kv.Kv | Scope.Scope>) {
      const clientScope = yield* Scope.make()
      const kv = yield* Scope.provide(newClient, clientScope)
      const scope = yield* Scope.make()
      yield* on(kv)(Scope.provide(make, scope))
      return yield* whileStopped(Effect.gen(function*() {
        const [released] = yield* timedWithoutStalls(Scope.close(scope, Exit.void))
        const [closed] = yield* timedWithoutStalls(Scope.close(clientScope, Exit.void))
        return { released: Math.round(released), closed: Math.round(closed) }
      }))
    })

    it.effect("on a stopped server, releasing any number of locks and keys takes one second, and closing the client little more", () =>
      Effect.gen(function*() {
        const names = (count: number) => Array.makeBy(count, (i) => `stopped/${count}-${i}`)
        const cases = {
          "1 name": DistLock.acquire(names(1)),
          "3 names": DistLock.acquire(names(3)),
          "10 names": DistLock.acquire(names(10)),
          "5 locks": Effect.forEach(names(5), (name) => DistLock.acquire(name)),
          "20 temporary keys": Effect.forEach(names(20), (name) => TempKey.make(name))
        }
        for (const [what, make] of Object.entries(cases)) {
          const { closed, released } = yield* ending(make)
          yield* Effect.logInfo(`${what}: released in ${released} ms, client closed in ${closed} ms`)
          assert.isAtMost(released, 1000 + slack, what)
          assert.isAtMost(closed, 300 + slack, what)
        }
      }))

    it.effect("interrupting a holder of 10 names takes one second on a stopped server", () =>
      Effect.gen(function*() {
        const kv = yield* newClient
        const names = Array.makeBy(10, (i) => `interrupted/${i}`)
        let holds = false
        const body = Effect.andThen(Effect.sync(() => holds = true), Effect.never)
        const fiber = yield* Effect.forkScoped(on(kv)(DistLock.withDistLock(body, names)))
        yield* until("it holds", Effect.sync(() => holds))
        const [took] = yield* whileStopped(timedWithoutStalls(Fiber.interrupt(fiber)))
        assert.isAtMost(took, 1000 + slack)
        yield* until("all are removed", Effect.map(kv.count(KeyRange.prefix("interrupted/")), (count) => count === 0))
      }))

    it.effect("an attempt ends at the caller's deadline and reports that the store was unreachable", () =>
      Effect.gen(function*() {
        for (const isFirst of [true, false]) {
          const kv = yield* newClient
          yield* kv.put("connected", "1")
          if (!isFirst) yield* on(kv)(DistLock.acquire(`deadline/keeps-the-session`))
          const attempts = {
            withDistLock: on(kv)(DistLock.withDistLock(Effect.void, "deadline/a")),
            tryAcquire: on(kv)(Effect.scoped(DistLock.tryAcquire("deadline/b"))),
            tempKey: Effect.scoped(on(kv)(TempKey.make("deadline/c")))
          }
          for (const [what, attempt] of Object.entries(attempts)) {
            const [took, error] = yield* whileStopped(
              timedWithoutStalls(Effect.flip(Deadline.within(attempt as Effect.Effect<unknown, unknown>, "1 second")))
            )
            assert.isAtMost(took, 1000 + slack, what)
            assert.strictEqual(KvError.isKvError(error) && error.reason._tag, "Unavailable", what)
            assert.notMatch(KvError.isKvError(error) ? error.message : "", /\dns\b/, "durations are whole milliseconds")
          }
          yield* until(
            "the attempts leave no key",
            Effect.map(kv.count(KeyRange.prefix("deadline/")), (n) => n === (isFirst ? 0 : 1))
          )
        }
      }))

    it.effect("an acquire that times out reports that the store was unreachable, within the timeout", () =>
      Effect.gen(function*() {
        const kv = yield* newClient
        yield* kv.put("connected", "1")
        const attempt = on(kv)(DistLock.withDistLock(Effect.void, "timed-out", { acquireTimeout: "1 second" }))
        const [took, error] = yield* whileStopped(timedWithoutStalls(Effect.flip(attempt)))
        assert.isAtMost(took, 2000 + slack)
        assert.isTrue(error instanceof LockError.LockTimeout)
        const failure = Option.getOrThrow((error as LockError.LockTimeout).storeFailure)
        assert.strictEqual(failure._tag, "Unavailable")
        assert.match(failure.message, /^http:.* has not responded/)
      }))
  }
)

/**
 * Runs the program until it holds the lock. Returns an effect that sends SIGTERM. Closing the scope kills the process.
 */
const forkedHolder = (endpoint: string, name: string, how: string) =>
  Effect.acquireRelease(
    Effect.callback<ChildProcess.ChildProcess>((resume) => {
      const file = fileURLToPath(new URL("./programs/forkedHolder.ts", import.meta.url))
      const child = ChildProcess.spawn(process.execPath, [file, endpoint, name, how], {
        stdio: ["ignore", "pipe", "inherit"]
      })
      child.stdout!.on("data", (chunk: Buffer) => {
        if (chunk.includes("held")) resume(Effect.succeed(child))
      })
    }),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )

layer(EtcdCluster.layer(), { excludeTestServices: true, timeout: "2 minutes" })(
  "locks of a process that receives SIGTERM",
  (it) => {
    for (const how of ["forkChild", "forkDetach"]) {
      it.effect(
        `a lock of a process that ends by SIGTERM is released after the finalizers of a holder in ${how} have run and written`,
        () =>
          Effect.gen(function*() {
            const { endpoints } = yield* EtcdCluster.EtcdCluster
            const kv = yield* client({ endpoints })
            const name = `forked/${how}`
            const child = yield* forkedHolder(endpoints[0]!, name, how)
            const next = yield* Effect.forkScoped(on(kv)(DistLock.withDistLock(kv.get(`${name}.result`), name)))
            yield* until("the next waits", Effect.map(on(kv)(DistLock.waiters(name)), ({ length }) => length === 1))
            child.kill("SIGTERM")
            assert.deepStrictEqual(yield* Fiber.join(next), Option.some("written"))
            yield* until("it ends", Effect.sync(() => child.exitCode !== null || child.signalCode !== null))
          }),
        60_000
      )
    }
  }
)

const withAuth = Layer.effect(
  EtcdCluster.EtcdCluster,
  Effect.tap(EtcdCluster.make(), (cluster) =>
    cluster.enableAuth({
      rootPassword: "root",
      users: [{
        name: "app",
        password: "secret",
        permissions: [{ permission: "readwrite", prefix: "revoked/" }, { permission: "readwrite", prefix: "kept/" }]
      }]
    }))
)

layer(withAuth, { excludeTestServices: true, timeout: "2 minutes" })(
  "locks of a user that loses a permission",
  (it) => {
    it.effect("a user that loses a permission loses only the locks on the keys concerned, and the release is not retried indefinitely", () =>
      Effect.gen(function*() {
        const cluster = yield* EtcdCluster.EtcdCluster
        const kv = yield* client({
          endpoints: cluster.endpoints,
          auth: { username: "app", password: Redacted.make("secret") }
        })
        const scope = yield* Scope.make()
        yield* on(kv)(Scope.provide(DistLock.acquire("revoked/l", { ttl: "3 seconds" }), scope))
        const kept = yield* on(kv)(DistLock.acquire("kept/l", { ttl: "3 seconds" }))
        yield* cluster.etcdctl(["role", "revoke-permission", "role-of-app", "revoked/", "--prefix"])
        const [took] = yield* timedWithoutStalls(Scope.close(scope, Exit.void))
        assert.isAtMost(took, 1000 + slack)
        // Several times the time to live.
        yield* Effect.sleep("8 seconds")
        assert.isTrue(yield* kept.isHeld)
        const entry = yield* kv.getEntry(kept.key)
        assert.strictEqual(Option.getOrThrow(entry).createRevision, kept.token)
        const next = yield* on(kv)(DistLock.acquire("kept/next", { ttl: "3 seconds" }))
        yield* Effect.sleep("4 seconds")
        assert.isTrue(yield* next.isHeld)
      }))
  }
)
