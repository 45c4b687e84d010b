/**
 * Batching on a real server: each batched operation fails or succeeds as if it had been sent alone.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as Deadline from "@effect-kv/core/Deadline"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Op from "@effect-kv/core/Op"
import { EtcdCluster, TcpProxy } from "@effect-kv/test-suite/verification"
import { assert, describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { client, reason, reasonOfExit, timed } from "./support/client.ts"
import { handledRequests } from "./support/handledRequests.ts"

const many = <A>(count: number, f: (i: number) => A): ReadonlyArray<A> => Array.from({ length: count }, (_, i) => f(i))

const all = <A, E, R>(effects: ReadonlyArray<Effect.Effect<A, E, R>>) =>
  Effect.forEach(effects, Effect.exit, { concurrency: "unbounded" })

/** How many requests the server's KV service has handled. */
const requests = handledRequests("\"etcdserverpb.KV\"")

layer(EtcdCluster.layer(), { excludeTestServices: true, timeout: "60 seconds" })((it) => {
  describe("batching on etcd", () => {
    it.effect("a thousand concurrent puts and gets take a few dozen requests, and each gets its own response", () =>
      Effect.gen(function*() {
        const { endpoints } = yield* EtcdCluster.EtcdCluster
        const kv = yield* client({ endpoints })
        yield* kv.put("warm", "up")
        const before = yield* requests
        yield* Effect.forEach(many(1000, (i) => i), (i) => kv.put(`batched/${i}`, `${i}`), {
          concurrency: "unbounded"
        })
        const values = yield* Effect.forEach(many(1000, (i) => i), (i) => kv.get(`batched/${i}`), {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual(values, many(1000, (i) => Option.some(`${i}`)))
        assert.isBelow((yield* requests) - before, 80)
        const { entries } = yield* kv.range(KeyRange.prefix("batched/"))
        assert.isTrue(entries.every((entry) => entry.version === 1))
      }))

    it.effect("concurrent increments of one key by transactions all take effect", () =>
      Effect.gen(function*() {
        const { endpoints } = yield* EtcdCluster.EtcdCluster
        const [a, b] = [yield* client({ endpoints }), yield* client({ endpoints })]
        const increment = (kv: typeof a) =>
          kv.modify("counter", (value) => `${Number(Option.getOrElse(value, () => "0")) + 1}`)
        yield* Effect.all([...many(40, () => increment(a)), ...many(40, () => increment(b))], {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual(yield* a.get("counter"), Option.some("80"))
      }))

    it.effect("500 fibers that modify one key through one client take 500 transactions, and no update of another client is lost", () =>
      Effect.gen(function*() {
        const { endpoints } = yield* EtcdCluster.EtcdCluster
        const [a, b] = [yield* client({ endpoints }), yield* client({ endpoints })]
        let calls = 0
        const increment = (kv: typeof a) =>
          kv.modify("modified", (value) => {
            calls++
            return `${Number(Option.getOrElse(value, () => "0")) + 1}`
          })
        const [tenPuts] = yield* timed(Effect.forEach(many(10, (i) => i), (i) => a.put("unmodified", `${i}`)))
        const before = yield* requests
        const [millis] = yield* timed(Effect.all(many(500, () => increment(a)), { concurrency: "unbounded" }))
        assert.deepStrictEqual(yield* a.get("modified"), Option.some("500"))
        assert.strictEqual(calls, 500)
        // The first read of `modify`, and the read above.
        assert.isAtMost((yield* requests) - before, 502)
        // As long as 500 puts, about a second; it took 42 s when the fibers raced each other. A put shows how busy the machine is.
        assert.isBelow(millis, 5000 + 10 * 50 * tenPuts)
        yield* Effect.all([...many(60, () => increment(a)), ...many(60, () => increment(b))], {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual(yield* a.get("modified"), Option.some("620"))
      }))

    it.effect("transactions of many operations are batched up to the operation limit as the server counts it", () =>
      Effect.gen(function*() {
        const { endpoints } = yield* EtcdCluster.EtcdCluster
        const kv = yield* client({ endpoints })
        const txn = (i: number, size: number) =>
          kv.txn({
            if: many(size, (k) => Compare.missing(`counted/${i}/${k}`)),
            then: many(size, (k) => Op.put(`counted/${i}/${k}`, "1"))
          })
        const sizes = many(120, (i) => 1 + (i * 37) % 90)
        const results = yield* Effect.forEach(sizes, (size, i) => txn(i, size), { concurrency: "unbounded" })
        assert.isTrue(results.every((result) => result.succeeded))
        assert.strictEqual(
          yield* kv.count(KeyRange.prefix("counted/")),
          sizes.reduce((sum, size) => sum + size, 0)
        )
      }))

    it.effect("an unknown lease or a value that is too large fails only its own operation", () =>
      Effect.gen(function*() {
        const { endpoints } = yield* EtcdCluster.EtcdCluster
        const kv = yield* client({ endpoints })
        const exits = yield* all(many(200, (i) =>
          i === 70
            ? kv.put("alone/lease", "1", { lease: 12345n })
            : i === 140
            ? kv.put("alone/large", new Uint8Array(1_700_000))
            : kv.put(`alone/${i}`, "1")))
        const reasons = exits.map(reasonOfExit)
        assert.strictEqual(reasons[70], "LeaseNotFound")
        assert.strictEqual(reasons[140], "RequestTooLarge")
        assert.strictEqual(exits.filter(Exit.isSuccess).length, 198)
        const { entries } = yield* kv.range(KeyRange.prefix("alone/"))
        assert.strictEqual(entries.length, 198)
        assert.isTrue(entries.every((entry) => entry.version === 1))
      }))

    it.effect("a server without space accepts deletes, and rejects puts and transactions with puts", () =>
      Effect.gen(function*() {
        const { endpoints } = yield* EtcdCluster.make({ flags: { "quota-backend-bytes": 2_000_000 } })
        const kv = yield* client({ endpoints })
        // The server counts what it has written to its file, every 100 ms.
        const fill = Effect.forEach(many(10_000, (i) => i), (i) => kv.put(`fill/${i}`, new Uint8Array(50_000)))
        assert.strictEqual((yield* reason(fill))._tag, "QuotaExceeded")
        const isRejected = (exits: ReadonlyArray<Exit.Exit<unknown, unknown>>) =>
          exits.every((exit) => reasonOfExit(exit) === "QuotaExceeded")
        const create = (i: number) => Effect.asVoid(kv.testAndSet(`full/${i}`, Option.none(), "1"))
        assert.isTrue(isRejected(yield* all(many(50, create))))
        const either = (i: number) => i % 2 === 0 ? Effect.asVoid(kv.put(`full/${i}`, "1")) : create(i)
        assert.isTrue(isRejected(yield* all(many(50, either))))
        assert.strictEqual(yield* kv.count(KeyRange.prefix("full/")), 0)
        const deleted = yield* Effect.forEach(many(20, (i) => i), (i) => kv.delete(`fill/${i}`), {
          concurrency: "unbounded"
        })
        assert.isTrue(deleted.every((response) => response.deleted === 1))
      }))

    it.effect("a server with a lower operation limit still executes every operation", () =>
      Effect.gen(function*() {
        const { endpoints } = yield* EtcdCluster.make({ flags: { "max-txn-ops": 10 } })
        const kv = yield* client({ endpoints })
        yield* Effect.forEach(many(300, (i) => i), (i) => kv.put(`few/${i}`, "1"), { concurrency: "unbounded" })
        assert.strictEqual(yield* kv.count(KeyRange.prefix("few/")), 300)
      }))

    it.effect("during an outage, an abandoned call is not sent later, and a call that runs out of time reports that it was not sent", () =>
      Effect.gen(function*() {
        const { endpoints } = yield* EtcdCluster.EtcdCluster
        const direct = yield* client({ endpoints })
        const proxy = yield* TcpProxy.make({ target: endpoints[0]! })
        // The proxy accepts connections but forwards nothing, so no request can leave.
        yield* proxy.blackhole()
        const kv = yield* client({ endpoints: [proxy.endpoint], deadline: "20 seconds" })
        const put = (key: string) => kv.put(`away/${key}`, "older")
        const others = yield* Effect.forkChild(Effect.forEach(many(20, String), put, { concurrency: "unbounded" }))
        const interrupted = yield* Effect.forkChild(put("interrupted"))
        const late = (i: number) => Effect.delay(put(`late/${i}`).pipe(Deadline.within("300 millis")), i * 7)
        const reasons = yield* Effect.forEach(many(20, late), reason, { concurrency: "unbounded" })
        yield* Fiber.interrupt(interrupted)
        yield* direct.put("away/interrupted", "newer")
        yield* proxy.heal
        yield* Fiber.join(others)
        assert.deepStrictEqual(yield* direct.get("away/interrupted"), Option.some("newer"))
        assert.strictEqual(yield* direct.count(KeyRange.prefix("away/late/")), 0)
        assert.isTrue(reasons.every(({ outcome }) => outcome === "NotApplied"))
      }))

    it.effect("if responses are lost, each write is applied at most once and reports that it may have been applied", () =>
      Effect.gen(function*() {
        const { endpoints } = yield* EtcdCluster.EtcdCluster
        const direct = yield* client({ endpoints })
        const proxy = yield* TcpProxy.make({ target: endpoints[0]! })
        const kv = yield* client({ endpoints: [proxy.endpoint], deadline: "2 seconds" })
        yield* kv.put("lost/warm", "up")
        let value = 0
        const worker = (id: number) =>
          Effect.forEach(many(15, (k) => k), (k) => {
            const mine = `${value++}`
            return Effect.map(Effect.exit(kv.put(`lost/${id}/${k}`, mine)), (exit) => ({ id, k, mine, exit }))
          })
        const running = yield* Effect.forkChild(
          Effect.forEach(many(100, (i) => i), worker, { concurrency: "unbounded" })
        )
        for (let i = 0; i < 8; i++) {
          const { struck } = yield* proxy.cutAfterForwarding({ when: TcpProxy.contains("lost/") })
          yield* Effect.raceFirst(struck, Fiber.await(running))
        }
        yield* proxy.heal
        const outcomes = (yield* Fiber.join(running)).flat()
        const unknown = outcomes.filter(({ exit }) => reasonOfExit(exit) === "Indeterminate")
        for (const { exit, id, k, mine } of outcomes) {
          const entry = yield* direct.getEntry(`lost/${id}/${k}`)
          if (Option.isSome(entry)) {
            assert.strictEqual(entry.value.lossyText, mine)
            assert.strictEqual(entry.value.version, 1, "each write is applied once")
          }
          if (Exit.isSuccess(exit)) assert.isTrue(Option.isSome(entry), "every confirmed write exists")
          else if (reasonOfExit(exit) !== "Indeterminate") assert.isTrue(Option.isNone(entry), String(exit.cause))
        }
        assert.isAbove(unknown.length, 0, "some responses were lost")
      }))
  })
})

layer(
  EtcdCluster.layer(),
  { excludeTestServices: true, timeout: "60 seconds" }
)((it) => {
  describe("batching on etcd with authentication", () => {
    it.effect("a denied operation fails alone, also in transactions and with previous entries", () =>
      Effect.gen(function*() {
        const cluster = yield* EtcdCluster.EtcdCluster
        yield* cluster.enableAuth({
          rootPassword: "root",
          users: [
            { name: "app", password: "p", permissions: [{ permission: "readwrite", prefix: "app/" }] },
            { name: "writer", password: "p", permissions: [{ permission: "write", prefix: "app/" }] }
          ]
        })
        const kv = yield* client({
          endpoints: cluster.endpoints,
          auth: { username: "app", password: Redacted.make("p") }
        })
        yield* kv.put("app/warm", "up")
        const exits = yield* all(many(150, (i) => {
          const key = i % 50 === 25 ? `denied/${i}` : `app/${i}`
          switch (i % 3) {
            case 0:
              return Effect.asVoid(kv.put(key, "1"))
            case 1:
              return Effect.asVoid(kv.testAndSet(key, Option.none(), "1"))
            default:
              return Effect.asVoid(kv.get(key))
          }
        }))
        const reasons = exits.map(reasonOfExit)
        assert.deepStrictEqual(
          reasons.flatMap((reason, i) => reason === undefined ? [] : [[i, reason]]),
          [[25, "PermissionDenied"], [75, "PermissionDenied"], [125, "PermissionDenied"]]
        )
        assert.strictEqual(yield* cluster.etcdctl(["get", "--prefix", "denied/"]), "")
        const writer = yield* client({
          endpoints: cluster.endpoints,
          auth: { username: "writer", password: Redacted.make("p") }
        })
        const puts = yield* all(many(50, (i) => writer.put(`app/${i}`, "2", { previous: i % 2 === 0 })))
        puts.map(reasonOfExit).forEach((reason, i) =>
          assert.strictEqual(reason, i % 2 === 0 ? "PermissionDenied" : undefined, `put ${i}`)
        )
      }))
  })
})
