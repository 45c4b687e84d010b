/**
 * A store that is replaced behind its address by a snapshot, an empty store or another cluster. Nothing may continue as
 * if it were still the old store, and every failure says why.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import * as RangeView from "@effect-kv/core/RangeView"
import * as Session from "@effect-kv/core/Session"
import * as TempKey from "@effect-kv/core/TempKey"
import { EtcdCluster, TcpProxy } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { client } from "./support/client.ts"
import { snapshot, wipeData } from "./support/replacing.ts"
import { eventually } from "./support/watching.ts"

/**
 * How a store is replaced. Returns the old endpoint, the replacement, and whether the new store has the prepared data.
 */
interface Replacement {
  readonly endpoint: string
  readonly replace: Effect.Effect<void, unknown>
  readonly keepsPrepared: boolean
}

type Replacing = (old: EtcdCluster.EtcdCluster["Service"]) => Effect.Effect<Replacement, unknown, Scope.Scope>

const toAnotherCluster = (writes: number): Replacing =>
  Effect.fnUntraced(function*(old) {
    const standby = yield* EtcdCluster.make()
    const kv = yield* client({ endpoints: standby.endpoints, batching: false })
    for (let i = 0; i < writes; i++) yield* kv.put("config", `standby ${i}`)
    const proxy = yield* TcpProxy.make({ target: old.endpoints[0]! })
    const replace = Effect.andThen(proxy.retarget(standby.endpoints[0]!), proxy.cut)
    return { endpoint: proxy.endpoint, replace, keepsPrepared: false }
  })

const replacements: Record<string, Replacing> = {
  "is restored from a snapshot": ({ endpoints: [endpoint], ...old }) =>
    Effect.map(
      snapshot({ endpoints: [endpoint!], ...old }),
      (replace) => ({ endpoint: endpoint!, replace, keepsPrepared: true })
    ),
  "starts without its data": (old) =>
    Effect.succeed({ endpoint: old.endpoints[0]!, replace: wipeData(old), keepsPrepared: false }),
  "is another cluster at a lower revision": toAnotherCluster(3),
  "is another cluster at a higher revision": toAnotherCluster(300)
}

/** Long enough that no renewal detects the replacement. */
const ttl = "60 seconds"

const isReplaced = (message: string): boolean => message.includes("the store was replaced: ")

/** The warnings that the store's clients log. */
const warnings = () => {
  const messages: Array<string> = []
  const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
    if (logLevel === "Warn") messages.push(String(message))
  })
  return { messages, logger: Logger.layer([logger]) }
}

const failure = <A>(exit: Exit.Exit<A, KvError | DistLock.LockFailure>): string | undefined => {
  if (Exit.isSuccess(exit)) return undefined
  const [reason] = exit.cause.reasons
  return reason?._tag === "Fail" ? reason.error.message : reason?._tag
}

describe("a store that is replaced behind its address", () => {
  for (const [how, replacing] of Object.entries(replacements)) {
    it.live(`a replaced store ends or reloads everything that depended on it, if it ${how}`, () => {
      const { logger, messages } = warnings()
      return Effect.gen(function*() {
        const old = yield* EtcdCluster.make()
        yield* Effect.flatMap(client({ endpoints: old.endpoints }), (kv) => kv.put("config", "old"))
        const { endpoint, keepsPrepared, replace } = yield* replacing(old)
        const kv = yield* client({ endpoints: [endpoint] })
        const inStore = Effect.provideService(Kv.Kv, kv)

        for (let i = 0; i < 20; i++) yield* kv.put("config", `old ${i}`)
        const view = yield* Effect.provideService(RangeView.make(KeyRange.key("config")), Kv.Kv, kv)
        const watch = yield* kv.subscribe(KeyRange.key("config"))
        const watching = yield* Effect.forkScoped(Stream.runDrain(watch.events))
        const waiting = yield* Effect.forkScoped(kv.waitForChange("nothing"))
        const lock = yield* inStore(DistLock.acquire("held", { ttl }))
        const waiter = yield* Effect.forkScoped(inStore(Effect.scoped(DistLock.acquire("held", { ttl: "61 seconds" }))))
        const body = yield* Effect.forkScoped(
          Effect.exit(inStore(DistLock.withDistLock(Effect.never, "body", { ttl })))
        )
        yield* Effect.provideService(TempKey.make("present", { value: "here", ttl }), Kv.Kv, kv)
        const once = yield* Effect.provideService(TempKey.make("once", { ttl, onLost: "fail" }), Kv.Kv, kv)
        const session = yield* inStore(Session.make({ ttl: "6 seconds" }))
        yield* eventually(Effect.map(inStore(DistLock.waiters("held")), (waiters) => waiters.length === 1))
        // Locks and temporary keys start to watch their keys after a delay.
        yield* Effect.sleep("500 millis")

        yield* replace

        assert.include(failure(yield* Fiber.await(watching)), "StoreReplaced")
        assert.include(failure(yield* Fiber.await(waiting)), "StoreReplaced")
        const shown = yield* view.changes.pipe(
          Stream.map(({ entries }) => entries.get("config")?.lossyText ?? ""),
          Stream.filter((text) => text !== "old 19"),
          Stream.runHead
        )
        const lost = yield* Effect.flip(lock.lost)
        assert.isTrue(isReplaced(lost.reason), lost.reason)
        const waited = failure(yield* Fiber.await(waiter)) ?? "acquired"
        assert.isTrue(isReplaced(waited), waited)
        const interrupted = failure(yield* Fiber.join(body)) ?? "succeeded"
        assert.isTrue(isReplaced(interrupted), interrupted)
        yield* Effect.flip(once.lost)
        yield* eventually(Effect.map(kv.get("present"), Option.contains("here")))
        assert.deepStrictEqual(shown, Option.some(Option.getOrElse(yield* kv.get("config"), () => "")))
        if (!keepsPrepared) yield* Effect.flip(session.lost)
        // A revision of the old store must not match a future revision of the new one.
        const early = yield* Effect.flip(kv.subscribe(KeyRange.key("config"), { startRevision: 1000n }))
        assert.strictEqual(early.reason._tag, "StoreReplaced")
        // The client is usable as before.
        const { revision } = yield* kv.put("config", "new")
        yield* Stream.runDrain(Stream.takeUntil(view.changes, (snapshot) => snapshot.revision >= revision))
        assert.strictEqual(
          (yield* kv.watch(KeyRange.key("config"), { startRevision: revision }).pipe(Stream.runHead))._tag,
          "Some"
        )
        yield* inStore(Effect.scoped(DistLock.acquire("held", { ttl })))
        // There is one warning for the store. The warnings of a watch and a lock name it as their cause.
        const ofStore = messages.filter((message) => message.startsWith("effect-kv: the store was replaced"))
        assert.lengthOf(ofStore, 1, messages.join("\n"))
      }).pipe(Effect.provide(logger))
    }, 60_000)
  }

  for (const how of ["is restored from a snapshot", "starts without its data"]) {
    it.live(`a client that only watches detects a replaced store, if it ${how}`, () =>
      Effect.gen(function*() {
        const old = yield* EtcdCluster.make()
        const writer = yield* client({ endpoints: old.endpoints })
        const { replace } = yield* replacements[how]!(old)
        const { revision } = yield* writer.put("config", "old")
        const kv = yield* client({ endpoints: old.endpoints })
        const watch = yield* kv.subscribe(KeyRange.key("config"), { startRevision: revision })
        const statuses: Array<string> = []
        yield* Effect.forkScoped(Stream.runForEach(watch.status, ({ _tag }) => Effect.sync(() => statuses.push(_tag))))
        const watching = yield* Effect.forkScoped(Stream.runDrain(watch.events))
        yield* eventually(Effect.sync(() => statuses.includes("Live")))
        yield* replace
        const failed = failure(yield* Fiber.await(watching)) ?? "ended"
        assert.isTrue(isReplaced(failed), failed)
        // The watch never appeared to be live again.
        assert.strictEqual(statuses.lastIndexOf("Live"), 0)
      }).pipe(Effect.provide(warnings().logger)), 60_000)
  }

  it.live("the client detects endpoints that lead to different clusters", () => {
    const { logger, messages } = warnings()
    return Effect.gen(function*() {
      const [one, other] = [yield* EtcdCluster.make(), yield* EtcdCluster.make()]
      const endpoints = [one, other].flatMap(({ endpoints }) => endpoints)
      const kv = yield* client({ endpoints, deadline: "20 seconds" })
      yield* kv.put("a", "1")
      const there = yield* Effect.forEach(
        [one, other],
        (cluster) => cluster.etcdctl(["get", "a", "--print-value-only"])
      )
      const [first, second] = there[0]!.includes("1") ? [one, other] : [other, one]
      yield* first.member.kill
      // The first write may be on the connection that breaks.
      const error = yield* kv.put("a", "2").pipe(
        Effect.retry({ while: (error) => error.reason._tag === "Indeterminate" }),
        Effect.flip
      )
      assert.deepStrictEqual([error.reason._tag, error.outcome], ["StoreReplaced", "Unknown"])
      for (const endpoint of endpoints) assert.include(error.message, endpoint)
      assert.strictEqual((yield* second.etcdctl(["get", "a", "--print-value-only"])).trim(), "2")
      assert.deepStrictEqual(yield* kv.get("a"), Option.some("2"))
      assert.lengthOf(messages.filter(isReplaced), 1)
    }).pipe(Effect.provide(logger))
  }, 60_000)

  it.live(
    "a replaced store fails a read with an outcome of NotApplied, and the next read reaches the new store",
    () =>
      Effect.gen(function*() {
        const old = yield* EtcdCluster.make()
        const kv = yield* client({ endpoints: old.endpoints, deadline: "20 seconds" })
        yield* kv.put("a", "old")
        yield* wipeData(old)
        const error = yield* Effect.flip(kv.get("a"))
        assert.deepStrictEqual([error.reason._tag, error.outcome, error.isRetryable], [
          "StoreReplaced",
          "NotApplied",
          false
        ])
        assert.deepStrictEqual(yield* kv.get("a"), Option.none())
      }).pipe(Effect.provide(warnings().logger)),
    60_000
  )
})
