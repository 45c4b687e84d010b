/**
 * TLS and mutual TLS on real servers, with correct and incorrect configurations.
 */
import * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import { EtcdCluster, TestCertificates } from "@effect-kv/test-suite/verification"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { client, reason } from "./support/client.ts"

interface Server {
  readonly authority: TestCertificates.Authority
  readonly endpoint: string
}
class Plain extends Context.Service<Plain, Server>()("Plain") {}
class Secure extends Context.Service<Secure, Server>()("Secure") {}
class Mutual extends Context.Service<Mutual, Server>()("Mutual") {}
class Expired extends Context.Service<Expired, Server>()("Expired") {}
class OtherName extends Context.Service<OtherName, Server>()("OtherName") {}

const server = <I>(
  tag: Context.Service<I, Server>,
  certificate: (authority: TestCertificates.Authority) => Effect.Effect<TestCertificates.Certificate>,
  mutual = false
) =>
  Layer.effect(
    tag,
    Effect.gen(function*() {
      const authority = yield* TestCertificates.make()
      const cluster = yield* EtcdCluster.make({
        tls: {
          server: yield* certificate(authority),
          ca: authority.ca,
          client: mutual ? yield* authority.client({ commonName: "etcdctl" }) : undefined
        }
      })
      return { authority, endpoint: cluster.endpoints[0]! }
    })
  )

const plain = Layer.effect(
  Plain,
  Effect.gen(function*() {
    return { authority: yield* TestCertificates.make(), endpoint: (yield* EtcdCluster.make()).endpoints[0]! }
  })
)

const servers = Layer.mergeAll(
  plain,
  server(Secure, (authority) => authority.server()),
  server(Mutual, (authority) => authority.server(), true),
  server(Expired, (authority) => authority.expiredServer()),
  server(OtherName, (authority) => authority.server({ names: ["etcd.example"] }))
)

const works = Effect.fnUntraced(function*(kv: Kv.Kv) {
  yield* kv.put("tls", "yes")
  assert.deepStrictEqual(yield* kv.get("tls"), Option.some("yes"))
})

/** On a busy machine an attempt may have no result by the deadline. Connecting continues until the next call. */
const untilTried = (failing: Effect.Effect<KvError.Reason, unknown>) =>
  Effect.repeat(failing, { until: ({ message }) => !message.includes("not connected yet") })

/** Why a client with these options fails, for a read and for a write. The write must be known not to have been sent. */
const failureMessage = Effect.fnUntraced(function*(options: EtcdLayer.Options) {
  const kv = yield* client({ deadline: "700 millis", ...options })
  const failure = yield* untilTried(reason(kv.put("tls", "no")))
  assert.strictEqual(failure._tag, "Unavailable")
  assert.strictEqual(failure.outcome, "NotApplied")
  assert.strictEqual((yield* reason(kv.get("tls")))._tag, "Unavailable")
  return failure.message
})

layer(servers, { excludeTestServices: true, timeout: "60 seconds" })((it) => {
  describe("TLS", () => {
    it.effect("TLS works with the authority's certificate", () =>
      Effect.gen(function*() {
        const { authority, endpoint } = yield* Secure
        yield* works(yield* client({ endpoints: [endpoint], tls: { ca: authority.ca.cert } }))
      }))

    it.effect("a server certified by another authority is rejected", () =>
      Effect.gen(function*() {
        const { endpoint } = yield* Secure
        const other = yield* TestCertificates.make()
        assert.match(yield* failureMessage({ endpoints: [endpoint], tls: { ca: other.ca.cert } }), /certificate/i)
        assert.match(yield* failureMessage({ endpoints: [endpoint] }), /certificate/i)
      }))

    it.effect("a server whose certificate has expired is rejected", () =>
      Effect.gen(function*() {
        const { authority, endpoint } = yield* Expired
        assert.match(yield* failureMessage({ endpoints: [endpoint], tls: { ca: authority.ca.cert } }), /expired/)
      }))

    it.effect("a server with another name is rejected, unless that name is expected", () =>
      Effect.gen(function*() {
        const { authority, endpoint } = yield* OtherName
        const ca = authority.ca.cert
        assert.match(yield* failureMessage({ endpoints: [endpoint], tls: { ca } }), /altnames|127\.0\.0\.1/)
        assert.match(
          yield* failureMessage({ endpoints: [endpoint], tls: { ca, serverName: "wrong.example" } }),
          /wrong\.example/
        )
        yield* works(yield* client({ endpoints: [endpoint], tls: { ca, serverName: "etcd.example" } }))
      }))

    it.effect("any server is accepted if verification is explicitly turned off", () =>
      Effect.gen(function*() {
        for (const { endpoint } of [yield* Secure, yield* Expired, yield* OtherName]) {
          yield* works(yield* client({ endpoints: [endpoint], tls: { insecureSkipVerify: true } }))
          yield* failureMessage({ endpoints: [endpoint], tls: { insecureSkipVerify: false } })
        }
      }))
  })

  describe("mutual TLS", () => {
    it.effect("mutual TLS works with a certificate of the server's authority", () =>
      Effect.gen(function*() {
        const { authority, endpoint } = yield* Mutual
        const { cert, key } = yield* authority.client()
        const tls = { ca: authority.ca.cert, certificate: cert, key: Redacted.make(key) }
        yield* works(yield* client({ endpoints: [endpoint], tls }))
      }))

    it.effect("mutual TLS can be configured from Config, with every other option", () =>
      Effect.gen(function*() {
        const { authority, endpoint } = yield* Mutual
        const { cert, key } = yield* authority.client()
        const layer = EtcdLayer.layerConfig({
          endpoints: Config.map(Config.String("ENDPOINTS"), (endpoints) => endpoints.split(",")),
          prefix: Config.String("PREFIX"),
          tls: {
            ca: Config.String("CA"),
            certificate: Config.String("CERTIFICATE"),
            key: Config.Redacted("KEY"),
            serverName: Config.option(Config.String("SERVER_NAME")).pipe(Config.map(Option.getOrUndefined)),
            insecureSkipVerify: Config.Boolean("INSECURE")
          },
          auth: { username: Config.String("USERNAME"), password: Config.Redacted("PASSWORD") },
          deadline: Config.Duration("DEADLINE"),
          keepAlive: { time: Config.Duration("KEEPALIVE_TIME"), timeout: Config.Duration("KEEPALIVE_TIMEOUT") },
          tracing: Config.Boolean("TRACING"),
          batching: Config.map(Config.Boolean("BATCHING"), (isOn) => isOn && { maxOps: 64 })
        })
        const variables = {
          ENDPOINTS: endpoint,
          PREFIX: "configured/",
          CA: authority.ca.cert,
          CERTIFICATE: cert,
          KEY: key,
          INSECURE: "false",
          USERNAME: "nobody",
          PASSWORD: "hunter2",
          DEADLINE: "7 seconds",
          KEEPALIVE_TIME: "20 seconds",
          KEEPALIVE_TIMEOUT: "3 seconds",
          TRACING: "false",
          BATCHING: "true"
        }
        const provided = (more: Record<string, string>) =>
          Effect.map(
            Layer.build(
              Layer.provide(layer, ConfigProvider.layer(ConfigProvider.fromUnknown({ ...variables, ...more })))
            ),
            Context.get(Kv.Kv)
          )
        yield* works(yield* provided({}))
        const wrongName = yield* provided({ SERVER_NAME: "wrong.example", DEADLINE: "700 millis" })
        assert.match((yield* untilTried(reason(wrongName.get("tls")))).message, /wrong\.example/)
      }))

    it.effect("mutual TLS rejects a client without a certificate, or with one of another authority", () =>
      Effect.gen(function*() {
        const { authority, endpoint } = yield* Mutual
        const ca = authority.ca.cert
        assert.match(yield* failureMessage({ endpoints: [endpoint], tls: { ca } }), /certificate/i)
        const other = yield* Effect.flatMap(TestCertificates.make("another authority"), (other) => other.client())
        const tls = { ca, certificate: other.cert, key: Redacted.make(other.key) }
        assert.match(yield* failureMessage({ endpoints: [endpoint], tls }), /alert|certificate/i)
      }))
  })

  describe("the wrong scheme", () => {
    it.effect("plain text to a TLS server fails with a message that names the mistake", () =>
      Effect.gen(function*() {
        const { endpoint } = yield* Secure
        const message = yield* failureMessage({ endpoints: [endpoint.replace("https:", "http:")] })
        assert.match(message, /does the server want https\?/)
      }))

    it.effect("TLS to a plain text server fails with a message that names the mistake", () =>
      Effect.gen(function*() {
        const { authority, endpoint } = yield* Plain
        const endpoints = [endpoint.replace("http:", "https:")]
        assert.match(
          yield* failureMessage({ endpoints, tls: { ca: authority.ca.cert } }),
          /does the server want http\?/
        )
      }))
  })
})

describe("bad certificates and keys", () => {
  const build = (tls: EtcdLayer.TlsOptions): Effect.Effect<KvError.Reason, unknown, Scope.Scope> =>
    Effect.map(
      Effect.flip(client({ endpoints: ["https://127.0.0.1:1"], tls })),
      (error) => (error as KvError.KvError).reason
    )

  it.effect("bad certificates and keys in the layer's options are rejected before anything is sent, and not repeated in the message", () =>
    Effect.gen(function*() {
      const authority = yield* TestCertificates.make()
      const [one, two] = [yield* authority.client(), yield* authority.client()]
      const wrong: ReadonlyArray<readonly [EtcdLayer.TlsOptions, RegExp]> = [
        [{ ca: "hunter2" }, /tls\.ca/],
        [{ certificate: one.cert }, /tls\.key/],
        [{ key: Redacted.make("hunter2") }, /tls\.certificate/],
        [{ certificate: "hunter2", key: Redacted.make(one.key) }, /tls\.certificate/],
        [{ certificate: one.cert, key: Redacted.make("hunter2") }, /tls\.key/],
        [{ certificate: one.cert, key: Redacted.make(two.key) }, /tls\.key/]
      ]
      for (const [tls, message] of wrong) {
        const failure = yield* build(tls)
        assert.strictEqual(failure._tag, "InvalidRequest")
        assert.match(failure.message, message)
        assert.notInclude(failure.message, "hunter2")
      }
    }))
})
