/**
 * Certificates and keys in files that are replaced while a client runs.
 */
import * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import * as EtcdClient from "@effect-kv/etcd/EtcdClient"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import { EtcdCluster, TcpProxy, TestCertificates } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Fs from "node:fs"
import { inspect } from "node:util"
import { client, reason, services } from "./support/client.ts"
import { hold } from "./support/holdings.ts"
import * as PemFiles from "./support/pemFiles.ts"

/** A server that requires client certificates, an authority that both sides trust, and the files of a client. */
const setUp = Effect.gen(function*() {
  const authority = yield* TestCertificates.make("the first authority")
  const tls = { server: yield* authority.server(), ca: authority.ca, client: yield* authority.client() }
  const cluster = yield* EtcdCluster.make({ tls })
  const files = yield* PemFiles.make
  const own = yield* authority.client()
  yield* files.write(authority.ca, own)
  const { ca, certificate, key } = files
  const proxy = yield* TcpProxy.make({ target: cluster.endpoints[0]! })
  const options = { endpoints: [proxy.endpoint.replace("http:", "https:")], tls: { files: { ca, certificate, key } } }
  return { authority, tls, cluster, files, own, proxy, options }
})

const failureOf = (tls: EtcdLayer.TlsOptions): Effect.Effect<KvError.Reason, unknown> =>
  Effect.map(
    Effect.flip(Effect.scoped(services({ endpoints: ["https://127.0.0.1:1"], tls }))),
    (error) => (error as KvError.KvError).reason
  )

/** On a busy machine an attempt may have no result by the deadline. Connecting continues until the next call. */
const untilTried = (failing: Effect.Effect<KvError.Reason, unknown>) =>
  Effect.repeat(failing, { until: ({ message }) => !message.includes("not connected yet") })

describe("certificates in files", () => {
  it.live(
    "a lock, a temporary key and a watch survive the rotation of authority, server and client certificate across a restart",
    () =>
      Effect.gen(function*() {
        const { authority, cluster, files, options, own, tls } = yield* setUp
        const kv = yield* client(options)
        const held = yield* hold(kv, "30 seconds")
        yield* kv.put("seen", "before")

        const next = yield* TestCertificates.make("the second authority")
        const client2 = yield* next.client()
        yield* files.write(next.ca, client2)
        yield* kv.put("seen", "between") // on the open connection
        yield* PemFiles.replaceFiles(tls.server, yield* next.server())
        yield* PemFiles.replaceFiles(tls.ca, next.ca)
        yield* PemFiles.replaceFiles(tls.client, yield* next.client())
        yield* cluster.member.restart

        yield* Effect.retry(kv.get("seen"), { times: 5 })
        yield* kv.put("seen", "after")
        yield* held.check(["before", "between", "after"])

        // The server accepts neither the old authority nor the old certificate.
        const { endpoints } = cluster
        const withOld = { certificate: own.cert, key: Redacted.make(own.key) }
        for (const tls of [{ ...withOld, ca: next.ca.cert }, { ca: authority.ca.cert }]) {
          const old = yield* client({ endpoints, tls, deadline: "700 millis" })
          assert.match((yield* untilTried(reason(old.get("seen")))).message, /certificate|unknown ca/)
        }
      }),
    60_000
  )

  it.live(
    "a file with wrong contents fails calls that need a new connection, names the file, and works once it is repaired",
    () =>
      Effect.gen(function*() {
        const { authority, files, options, own, proxy } = yield* setUp
        const other = yield* authority.client()
        const kv = yield* client({ ...options, deadline: "700 millis" })
        yield* kv.put("a", "1")
        const half = own.cert.slice(0, own.cert.length / 2)
        const faults: ReadonlyArray<readonly [file: string, contents: string | undefined, message: RegExp]> = [
          [files.ca, "hunter2", /tls\.files\.ca .*ca\.pem\) is not a PEM certificate/],
          [
            files.ca,
            `${authority.ca.cert}${half}`,
            /tls\.files\.ca .*ca\.pem\) is not a PEM certificate: it is incomplete/
          ],
          [files.ca, undefined, /tls\.files\.ca .*ca\.pem\) cannot be read: ENOENT/],
          [
            files.certificate,
            half,
            /tls\.files\.certificate .*client\.pem\) is not a PEM certificate: it is incomplete/
          ],
          [files.key, "hunter2", /tls\.files\.key .*client-key\.pem\) cannot be used/],
          [
            files.key,
            other.key,
            /tls\.files\.certificate .*client\.pem\) and tls\.files\.key .*-key\.pem\) cannot be used/
          ]
        ]
        for (const [file, contents, message] of faults) {
          yield* Effect.sync(() => contents === undefined ? Fs.rmSync(file) : Fs.writeFileSync(file, contents))
          assert.deepStrictEqual(yield* kv.get("a"), Option.some("1"), "the open connection is still used")
          yield* proxy.cut
          yield* untilTried(reason(kv.get("a")))
          const failure = yield* untilTried(reason(kv.put("a", "2")))
          assert.strictEqual(failure._tag, "Unavailable")
          assert.strictEqual(failure.outcome, "NotApplied")
          assert.match(failure.message, message)
          assert.notInclude(inspect(failure, { depth: 9 }), "hunter2")
          yield* files.write(authority.ca, own)
          yield* Effect.retry(kv.put("a", "1"), { times: 5 })
        }
      }),
    60_000
  )

  it.live("a file that is incomplete when the layer is built is read again, and one that stays so is InvalidRequest", () =>
    Effect.gen(function*() {
      const { authority, files, options, own } = yield* setUp
      const { readFile } = Fs.promises
      let reads = 0
      yield* Effect.acquireRelease(
        Effect.sync(() =>
          Object.assign(Fs.promises, {
            readFile: (...args: Parameters<typeof readFile>) => {
              if (args[0] === files.certificate && ++reads === 2) Fs.writeFileSync(files.certificate, own.cert)
              return readFile(...args)
            }
          })
        ),
        () => Effect.sync(() => Object.assign(Fs.promises, { readFile }))
      )
      Fs.writeFileSync(files.certificate, own.cert.slice(0, -40))
      const kv = yield* client(options)
      yield* kv.put("a", "1")
      const { ca, certificate, key } = files
      yield* files.write(authority.ca, own)
      const missing = `${ca}.missing`
      const cases: ReadonlyArray<readonly [EtcdLayer.TlsOptions, RegExp]> = [
        [{ files: { ca: missing } }, /tls\.files\.ca .*ca\.pem\.missing\) cannot be read: ENOENT/],
        [{ files: { ca: key } }, /tls\.files\.ca .*client-key\.pem\) is not a PEM certificate/],
        [{ files: { certificate } }, /tls\.certificate and tls\.key belong together/],
        [{ ca: authority.ca.cert, files: { ca } }, /tls\.ca and tls\.files\.ca exclude each other/],
        [{ files: { certificate: ca, key } }, /tls\.files\.certificate .* and tls\.files\.key .* cannot be used/]
      ]
      for (const [tls, message] of cases) {
        const failure = yield* failureOf(tls)
        assert.strictEqual(failure._tag, "InvalidRequest")
        assert.match(failure.message, message)
        assert.notInclude(failure.message, "PRIVATE KEY")
      }
    }))

  it.live("texts and files can be mixed, the names of files can come from Config, and nothing prints the key", () =>
    Effect.gen(function*() {
      const { authority, files, options, own } = yield* setUp
      const { certificate, key } = files
      const mixed = { ca: authority.ca.cert, files: { certificate, key } }
      const context = yield* services({ ...options, tls: mixed })
      yield* Context.get(context, Kv.Kv).put("a", "1")
      assert.notInclude(inspect(context, { depth: 20, showHidden: true }), own.key.slice(60, 100))
      const layer = EtcdLayer.layerConfig({
        endpoints: Config.succeed(options.endpoints),
        tls: {
          files: {
            ca: Config.String("CA_FILE"),
            certificate: Config.String("CERTIFICATE_FILE"),
            key: Config.String("KEY_FILE")
          }
        }
      })
      const variables = ConfigProvider.fromUnknown({
        CA_FILE: files.ca,
        CERTIFICATE_FILE: certificate,
        KEY_FILE: key
      })
      const read = Effect.provide(Kv.get("a"), Layer.provide(layer, ConfigProvider.layer(variables)))
      assert.deepStrictEqual(yield* read, Option.some("1"))
    }))

  it.live("EtcdClient fails with Unavailable while a file is missing, and opens its client once it is back", () =>
    Effect.gen(function*() {
      const { authority, files, options, own } = yield* setUp
      const context = yield* services(options)
      const { etcd3 } = Context.get(context, EtcdClient.EtcdClient)
      Fs.rmSync(files.ca)
      const failure = yield* reason(etcd3)
      assert.strictEqual(failure._tag, "Unavailable")
      assert.match(failure.message, /tls\.files\.ca .*cannot be read/)
      yield* files.write(authority.ca, own)
      const opening = yield* Effect.forkChild(etcd3)
      const opened = yield* etcd3
      assert.strictEqual(yield* Fiber.join(opening), opened, "all callers get the same client")
      const { version } = yield* Effect.promise(() => opened.maintenance.status())
      assert.match(version, /^3\./)
    }))
})
