/**
 * The layer's options and URLs: what is accepted, and errors that explain a problem without repeating the value.
 */
import * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import * as KvUrl from "@effect-kv/core/KvUrl"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import { assert, describe, it } from "@effect/vitest"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import * as settings from "../src/internal/settings.ts"
import { client, reason, services } from "./support/client.ts"
import * as FakeEtcd from "./support/FakeEtcd.ts"

const wrong = (options: EtcdLayer.Options): Effect.Effect<KvError.Reason, unknown> =>
  Effect.map(Effect.flip(Effect.scoped(services(options))), (error) => (error as KvError.KvError).reason)

const endpoints = ["http://127.0.0.1:2379"]

describe("options", () => {
  it.effect("options have defaults", () =>
    Effect.gen(function*() {
      const made = yield* settings.make({ endpoints })
      assert.deepStrictEqual(made.endpoints, endpoints)
      assert.strictEqual(Duration.toMillis(made.deadline), 5000)
      assert.deepStrictEqual(made.keepAlive, { time: 6000, timeout: 5000 })
    }))

  // Node's timers fire immediately above 2^31 - 1 ms, so the client would ping without pause.
  it.effect("options accept durations beyond the limit of Node's timers, for example to disable pings", () =>
    Effect.gen(function*() {
      for (const long of [Duration.infinity, Duration.days(25)]) {
        const { keepAlive } = yield* settings.make({ endpoints, keepAlive: { time: long, timeout: long } })
        assert.deepStrictEqual(keepAlive, { time: 2 ** 31 - 1, timeout: 2 ** 31 - 1 })
      }
    }))

  it.live("a deadline beyond the limit of Node's timers never expires", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make(() => ({ response: { header: FakeEtcd.header } }))
      for (const deadline of [Duration.infinity, Number.MAX_SAFE_INTEGER, "5000000 days"] as const) {
        for (const batching of [false, {}] as const) {
          const kv = yield* client({ endpoints: [fake.endpoint], deadline, batching })
          yield* Effect.all([kv.put("a", "1"), kv.put("b", "1"), kv.put("c", "1")], { concurrency: "unbounded" })
        }
      }
    }))

  it.effect("endpoints may be names, IPv4 and IPv6 addresses, may end with a slash, and each is used once", () =>
    Effect.gen(function*() {
      const many = ["https://etcd-1.example:2379", "https://10.0.0.1:1/", "https://[::1]:65535", "https://10.0.0.1:1"]
      const made = yield* settings.make({ endpoints: many })
      assert.deepStrictEqual(made.endpoints, [
        "https://etcd-1.example:2379",
        "https://10.0.0.1:1",
        "https://[::1]:65535"
      ])
    }))

  it.effect("schemes and hosts are case-insensitive, and endpoints that differ only in case are one", () =>
    Effect.gen(function*() {
      const made = yield* settings.make({ endpoints: ["HTTP://Etcd-1:2379", "http://etcd-1:2379/", "Http://[::A]:1"] })
      assert.deepStrictEqual(made.endpoints, ["http://etcd-1:2379", "http://[::a]:1"])
      const secure = yield* settings.make({ endpoints: ["HTTPS://a:1", "https://b:1", "HttpS://A:1"], tls: {} })
      assert.deepStrictEqual(secure.endpoints, ["https://a:1", "https://b:1"])
      assert.match((yield* wrong({ endpoints: ["HTTP://a:1", "https://a:1"] })).message, /one scheme/)
    }))

  it.effect("invalid options fail the construction of the layer with the problem", () =>
    Effect.gen(function*() {
      const cases: ReadonlyArray<readonly [EtcdLayer.Options, RegExp]> = [
        [{ endpoints: [] }, /endpoints is empty/],
        [{ endpoints: ["127.0.0.1:2379"] }, /endpoints\[0\].*http:\/\/ or https/],
        [{ endpoints: ["ftp://127.0.0.1:2379"] }, /endpoints\[0\]/],
        [{ endpoints: [...endpoints, "http://hunter2"] }, /endpoints\[1\] has no port/],
        [{ endpoints: ["http://hunter2:0"] }, /no valid port/],
        [{ endpoints: ["http://hunter2:70000"] }, /no valid port/],
        [{ endpoints: ["http://hunter2:x"] }, /no valid port/],
        [{ endpoints: ["http://:2379"] }, /no valid host/],
        [{ endpoints: ["http://::1:2379"] }, /no valid/],
        [{ endpoints: ["http://127.0.0.1:2379/hunter2"] }, /no valid/],
        [{ endpoints: ["http://127.0.0.1:2379?hunter2"] }, /no valid/],
        [{ endpoints: ["http://root:hunter2@127.0.0.1:2379"] }, /user name/],
        [{ endpoints: [...endpoints, "https://127.0.0.1:2379"] }, /one scheme/],
        [{ endpoints, tls: {} }, /tls/],
        [{ endpoints, auth: { username: "", password: Redacted.make("hunter2") } }, /username/],
        [{ endpoints, deadline: 0 }, /deadline/],
        [{ endpoints, deadline: "-1 seconds" }, /deadline/],
        [{ endpoints, keepAlive: { time: 0 } }, /keepAlive\.time/],
        [{ endpoints, keepAlive: { timeout: 0 } }, /keepAlive\.timeout/],
        [{ endpoints, prefix: "\ud800" }, /prefix/],
        [{ endpoints, batching: { maxOps: 0 } }, /batching\.maxOps must be a positive integer/],
        [{ endpoints, batching: { maxBytes: -1 } }, /batching\.maxBytes/],
        [{ endpoints, batching: { maxInFlight: Number.NaN } }, /batching\.maxInFlight/]
      ]
      for (const [options, message] of cases) {
        const failure = yield* wrong(options)
        assert.strictEqual(failure._tag, "InvalidRequest")
        assert.match(failure.message, message)
        assert.notInclude(failure.message, "hunter2")
      }
    }))

  // Some gRPC libraries read these names as URL schemes.
  it.live("a host may have any name, even one that looks like a scheme", () =>
    Effect.gen(function*() {
      for (const host of ["unix", "ipv4", "dns"]) {
        const kv = yield* client({ endpoints: [`http://${host}:2379`], deadline: "500 millis" })
        const { message } = yield* reason(kv.get("a"))
        assert.match(message, new RegExp(`${host} cannot be resolved: |not connected yet`))
      }
    }))

  it.live("an endpoint may be a Unix socket", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make(() => ({ response: { header: FakeEtcd.header } }))
      const directory = yield* Effect.acquireRelease(
        Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "effect-kv-"))),
        (directory) => Effect.sync(() => Fs.rmSync(directory, { recursive: true }))
      )
      const socket = Path.join(directory, "Etcd.sock")
      // Host names are case-insensitive, file names are not.
      yield* Effect.acquireRelease(
        Effect.callback<Net.Server>((resume) => {
          const server = Net.createServer((client) => {
            const upstream = Net.connect(Number(new URL(fake.endpoint).port), "127.0.0.1")
            client.pipe(upstream).pipe(client)
            client.on("error", () => upstream.destroy())
            upstream.on("error", () => client.destroy())
          }).listen(socket, () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
      )
      const kv = yield* client({ endpoints: [`UNIX://${socket}`] })
      yield* kv.put("a", "1")
      assert.strictEqual(fake.received.length, 1)
      assert.deepStrictEqual((yield* settings.make({ endpoints: [`UNIX://${socket}`] })).endpoints, [
        `unix://${socket}`
      ])
      assert.match((yield* wrong({ endpoints: ["unix://"] })).message, /has no socket path/)
      assert.match((yield* wrong({ endpoints: ["unix:///a", "unixs:///b"] })).message, /one scheme/)
    }))

  it.live("a prefix confines the client to its keys", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make(() => ({ response: { header: FakeEtcd.header } }))
      const kv = yield* client({ endpoints: [fake.endpoint], prefix: "app/" })
      yield* kv.put("a", "1")
      assert.strictEqual(String(fake.received[0]!.request["key"]), "app/a")
      assert.strictEqual((yield* reason(kv.put("", "1")))._tag, "InvalidRequest")
    }))

  it.live("options can come from Config", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make(({ method }) =>
        method === "Authenticate"
          ? { response: { header: FakeEtcd.header, token: "t" } }
          : { response: { header: FakeEtcd.header } }
      )
      const layer = EtcdLayer.layerConfig({
        endpoints: Config.map(Config.String("ETCD_ENDPOINT"), (endpoint) => [endpoint]),
        prefix: Config.String("ETCD_PREFIX"),
        batching: Config.map(Config.Boolean("ETCD_FOLDING"), (isOn) => isOn ? { maxOps: 64 } : false),
        auth: { username: Config.String("ETCD_USER"), password: Config.Redacted("ETCD_PASSWORD") }
      })
      const provider = ConfigProvider.fromUnknown({
        ETCD_ENDPOINT: fake.endpoint,
        ETCD_PREFIX: "configured/",
        ETCD_FOLDING: "true",
        ETCD_USER: "app",
        ETCD_PASSWORD: "secret"
      })
      yield* Kv.put("a", "1").pipe(
        Effect.provide(Layer.provide(layer, ConfigProvider.layer(provider)))
      )
      assert.deepStrictEqual(fake.received[0]!.request, { name: "app", password: "secret" })
      assert.strictEqual(String(fake.received[1]!.request["key"]), "configured/a")
    }))
})

describe("URLs", () => {
  it.effect("a URL holds endpoints and a percent-encoded user", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* settings.fromUrl("http://a:1,b:2"), { endpoints: ["http://a:1", "http://b:2"] })
      const { auth, endpoints } = yield* settings.fromUrl("https://us%40er:p%3Ass@[::1]:1/")
      assert.deepStrictEqual(endpoints, ["https://[::1]:1"])
      assert.strictEqual(auth?.username, "us@er")
      assert.strictEqual(Redacted.value(auth!.password), "p:ss")
    }))

  it.effect("a URL's scheme is case-insensitive, and its user and password keep their case", () =>
    Effect.gen(function*() {
      const { auth, endpoints } = yield* settings.fromUrl("HttpS://User:PassWord@A:1,b:2")
      assert.deepStrictEqual((yield* settings.make({ endpoints })).endpoints, ["https://a:1", "https://b:2"])
      assert.strictEqual(auth?.username, "User")
      assert.strictEqual(Redacted.value(auth!.password), "PassWord")
    }))

  it.effect("an invalid URL is an InvalidRequest that does not repeat the URL", () =>
    Effect.gen(function*() {
      const urls = [
        "http://",
        "http://hunter2",
        "http://a:1/hunter2",
        "http://a:1?hunter2",
        "http://a:1#hunter2",
        "http://hunter2@a:1",
        "http://root:hunter2%@a:1",
        "http://root:hunter2@",
        "http://root:hunter2@a:1,",
        "http://root:hunter2@a:1,b",
        "etcd://root:hunter2@a:1",
        "root:hunter2@a:1"
      ]
      for (const url of urls) {
        const error = yield* Effect.flip(Effect.scoped(Layer.build(EtcdLayer.fromUrl(url))))
        assert.strictEqual(error.reason._tag, "InvalidRequest")
        assert.notInclude(error.message, "hunter2")
      }
    }))

  it.live("KvUrl opens a store by its URL", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make(() => ({ response: { header: FakeEtcd.header } }))
      const schemes = { http: EtcdLayer.fromUrl, https: EtcdLayer.fromUrl }
      for (const url of [fake.endpoint, fake.endpoint.toUpperCase()]) {
        yield* Effect.provide(Kv.put("a", "1"), KvUrl.layer(url, schemes))
      }
      assert.strictEqual(fake.received.length, 2)
    }))
})
