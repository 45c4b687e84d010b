import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Crypto from "node:crypto"
import * as Fs from "node:fs"
import type { AddressInfo } from "node:net"
import * as Path from "node:path"
import * as Tls from "node:tls"
import * as TestCertificates from "../src/verification/TestCertificates.ts"

/** The error of a TLS handshake, or "accepted". */
const handshake = (
  server: TestCertificates.Certificate,
  client: { readonly ca: TestCertificates.Certificate; readonly servername?: string }
) =>
  Effect.acquireUseRelease(
    Effect.callback<Tls.Server>((resume) => {
      const listener = Tls.createServer({ cert: server.cert, key: server.key })
      listener.on("tlsClientError", () => {})
      listener.listen(0, "127.0.0.1", () => resume(Effect.succeed(listener)))
    }),
    (listener) =>
      Effect.callback<string>((resume) => {
        const { port } = listener.address() as AddressInfo
        const socket = Tls.connect({
          port,
          host: "127.0.0.1",
          servername: client.servername ?? "localhost",
          ca: client.ca.cert
        })
        socket.once("secureConnect", () => {
          socket.destroy()
          resume(Effect.succeed("accepted"))
        })
        socket.once("error", (error: NodeJS.ErrnoException) => resume(Effect.succeed(error.code ?? error.message)))
      }),
    (listener) => Effect.callback<void>((resume) => void listener.close(() => resume(Effect.void)))
  )

describe("TestCertificates", () => {
  it.live("a server certificate is accepted for its names only", () =>
    Effect.gen(function*() {
      const authority = yield* TestCertificates.make()
      const server = yield* authority.server()
      assert.strictEqual(yield* handshake(server, { ca: authority.ca }), "accepted")
      assert.strictEqual(
        yield* handshake(server, { ca: authority.ca, servername: "etcd.example" }),
        "ERR_TLS_CERT_ALTNAME_INVALID"
      )
      const named = yield* authority.server({ names: ["etcd.example"] })
      assert.strictEqual(yield* handshake(named, { ca: authority.ca, servername: "etcd.example" }), "accepted")
    }))

  it.live("an expired certificate and one of another authority with the same name are rejected", () =>
    Effect.gen(function*() {
      const authority = yield* TestCertificates.make()
      const expired = yield* authority.expiredServer()
      assert.strictEqual(yield* handshake(expired, { ca: authority.ca }), "CERT_HAS_EXPIRED")
      const other = yield* TestCertificates.make()
      const foreign = yield* other.server()
      assert.match(
        yield* handshake(foreign, { ca: authority.ca }),
        /UNABLE_TO_VERIFY_LEAF_SIGNATURE|SELF_SIGNED|SIGNATURE/
      )
    }))

  it.effect("other programs read the same contents from the certificates", () =>
    Effect.gen(function*() {
      const authority = yield* TestCertificates.make("an authority")
      const ca = new Crypto.X509Certificate(authority.ca.cert)
      assert.isTrue(ca.ca)
      assert.isTrue(ca.verify(ca.publicKey))
      const server = new Crypto.X509Certificate((yield* authority.server({ names: ["a.b", "10.0.0.1", "::1"] })).cert)
      assert.strictEqual(server.subjectAltName, "DNS:a.b, IP Address:10.0.0.1, IP Address:0:0:0:0:0:0:0:1")
      assert.isTrue(server.checkIssued(ca))
      const made = yield* authority.client({ commonName: "änne" })
      const client = new Crypto.X509Certificate(made.cert)
      assert.strictEqual(client.subject, "CN=änne")
      assert.deepStrictEqual(client.keyUsage, ["1.3.6.1.5.5.7.3.2"])
      assert.isTrue(client.checkPrivateKey(Crypto.createPrivateKey(made.key)))
      assert.strictEqual(Fs.readFileSync(made.certFile, "utf8"), made.cert)
    }))

  it.effect("no file is left after the scope of the authority has closed", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const authority = yield* TestCertificates.make().pipe(Scope.provide(scope))
      const directory = Path.dirname(authority.ca.certFile)
      assert.isTrue(Fs.existsSync(directory))
      yield* Scope.close(scope, Exit.void)
      assert.isFalse(Fs.existsSync(directory))
    }))
})
