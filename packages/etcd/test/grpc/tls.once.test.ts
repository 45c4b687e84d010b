/**
 * The connections of a channel over TLS, IPv6 and Unix sockets, and its requests as an HTTP/2 server sees them.
 */
import { TestCertificates } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Http2 from "node:http2"
import type * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Tls from "node:tls"
import * as Grpc from "../../src/grpc/make.ts"
import type { TlsMaterial, TlsOptions } from "../../src/grpc/Transport.ts"
import { call, channelTo, failureOf } from "./support/client.ts"
import { message } from "./support/Peer.ts"

interface Seen {
  readonly headers: Http2.IncomingHttpHeaders & { readonly [Http2.sensitiveHeaders]?: ReadonlyArray<string> }
  readonly servername: unknown
  readonly alpn: unknown
  readonly client: string | undefined
}

/** Node's HTTP/2 server, which responds to every call, and the requests it received. */
const serve = Effect.fnUntraced(function*(
  options: Http2.SecureServerOptions | undefined,
  listen: Net.ListenOptions = { host: "127.0.0.1", port: 0 }
) {
  const seen: Array<Seen> = []
  const sessions = new Set<Http2.ServerHttp2Session>()
  const server = options === undefined ? Http2.createServer() : Http2.createSecureServer(options)
  server.on("sessionError", () => {})
  server.on("session", (session) => void sessions.add(session))
  server.on("stream", (stream: Http2.ServerHttp2Stream, headers: Seen["headers"]) => {
    const socket = stream.session!.socket as Tls.TLSSocket
    seen.push({
      headers,
      servername: (socket as unknown as { servername: unknown }).servername,
      alpn: socket.alpnProtocol,
      client: socket.getPeerCertificate?.()?.subject?.CN as string | undefined
    })
    stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true })
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }))
    stream.end(message("response"))
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => void server.listen(listen, () => resume(Effect.void))),
    () =>
      Effect.sync(() => {
        server.close()
        for (const session of sessions) session.destroy()
      })
  )
  return { seen, port: (server.address() as Net.AddressInfo).port, sessions }
})

const secure = (host: string, port: number, tls: TlsOptions, addresses: ReadonlyArray<string> = ["127.0.0.1"]) =>
  Grpc.make({
    target: { _tag: "Host", host, port, secure: true },
    tls,
    resolve: () => Effect.succeed(addresses.map((address) => ({ address, family: 4 }))),
    connect: { timeout: "5 seconds" }
  })

const trusting = (authority: TestCertificates.Authority, more: TlsMaterial = {}) =>
  Effect.succeed({ ca: authority.ca.cert, ...more })

/** The path of a Unix socket in a directory that is removed with the scope. */
const socketPath = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "grpc-"))),
    (directory) => Effect.sync(() => Fs.rmSync(directory, { recursive: true }))
  ),
  (directory) => Path.join(directory, "socket")
)

describe("channels over TLS", () => {
  it.live("a channel over TLS negotiates h2, sends the name as SNI, and verifies the certificate for it", () =>
    Effect.gen(function*() {
      const authority = yield* TestCertificates.make()
      const server = yield* serve(yield* authority.server({ names: ["etcd.example"] }))
      const channel = yield* secure("etcd.example", server.port, { material: trusting(authority) })
      assert.strictEqual(yield* call(channel), "response")
      const [seen] = server.seen
      assert.deepStrictEqual([seen!.servername, seen!.alpn], ["etcd.example", "h2"])
      assert.strictEqual(seen!.headers[":authority"], `etcd.example:${server.port}`)
      assert.strictEqual(seen!.headers[":scheme"], "https")
      const other = yield* secure("other.example", server.port, { material: trusting(authority) })
      const failure = yield* failureOf(other)
      assert.strictEqual(failure.delivery, "NotSent")
      assert.match(failure.details, /other\.example.*etcd\.example/)
    }))

  it.live("a channel to an IP address sends no SNI, and verifies the certificate for the address", () =>
    Effect.gen(function*() {
      const authority = yield* TestCertificates.make()
      const server = yield* serve(yield* authority.server({ names: ["127.0.0.1"] }))
      const channel = yield* secure("127.0.0.1", server.port, { material: trusting(authority) })
      assert.strictEqual(yield* call(channel), "response")
      assert.strictEqual(server.seen[0]!.servername, false)
      const named = yield* serve(yield* authority.server({ names: ["etcd.example"] }))
      const wrong = yield* secure("127.0.0.1", named.port, { material: trusting(authority) })
      assert.match((yield* failureOf(wrong)).details, /127\.0\.0\.1/)
      const overridden = yield* secure("127.0.0.1", named.port, {
        material: trusting(authority),
        serverName: "etcd.example"
      })
      assert.strictEqual(yield* call(overridden), "response")
      assert.strictEqual(named.seen[0]!.servername, "etcd.example")
      assert.strictEqual(named.seen[0]!.headers[":authority"], "etcd.example")
    }))

  it.live("a channel over TLS connects to an IPv6 address without SNI, and to a Unix socket as localhost", () =>
    Effect.gen(function*() {
      const authority = yield* TestCertificates.make()
      const material = trusting(authority)
      const six = yield* serve(yield* authority.server({ names: ["::1"] }), { host: "::1", port: 0 })
      const toSix = { _tag: "Host", host: "::1", port: six.port, secure: true } as const
      assert.strictEqual(yield* call(yield* Grpc.make({ target: toSix, tls: { material } })), "response")
      assert.deepStrictEqual([six.seen[0]!.servername, six.seen[0]!.alpn], [false, "h2"])
      assert.strictEqual(six.seen[0]!.headers[":authority"], `[::1]:${six.port}`)
      const four = yield* serve(yield* authority.server({ names: ["127.0.0.1"] }), { host: "::1", port: 0 })
      const wrong = yield* Grpc.make({ target: { ...toSix, port: four.port }, tls: { material } })
      assert.match((yield* failureOf(wrong)).details, /::1/)
      const path = yield* socketPath
      const unix = yield* serve(yield* authority.server({ names: ["localhost"] }), { path })
      const toUnix = { _tag: "Unix", path, secure: true } as const
      assert.strictEqual(yield* call(yield* Grpc.make({ target: toUnix, tls: { material } })), "response")
      const { headers, servername } = unix.seen[0]!
      assert.deepStrictEqual([servername, headers[":authority"], headers[":scheme"]], [
        "localhost",
        "localhost",
        "https"
      ])
    }))

  it.live("a channel trusts only the given certificates, unless verification is off", () =>
    Effect.gen(function*() {
      const authority = yield* TestCertificates.make()
      const stranger = yield* TestCertificates.make("stranger")
      const server = yield* serve(yield* authority.expiredServer())
      for (const material of [undefined, trusting(stranger), trusting(authority)]) {
        const channel = yield* secure("127.0.0.1", server.port, { material })
        const failure = yield* failureOf(channel)
        assert.strictEqual(failure.delivery, "NotSent")
        assert.match(failure.details, /certificate/i)
      }
      const channel = yield* secure("127.0.0.1", server.port, { insecureSkipVerify: true })
      assert.strictEqual(yield* call(channel), "response")
    }))

  it.live("a channel verifies certificates even if NODE_TLS_REJECT_UNAUTHORIZED turns that off for the process", () =>
    Effect.gen(function*() {
      const name = "NODE_TLS_REJECT_UNAUTHORIZED"
      const before = process.env[name]
      yield* Effect.acquireRelease(
        Effect.sync(() => process.env[name] = "0"),
        () =>
          Effect.sync(() => {
            if (before === undefined) delete process.env[name]
            else process.env[name] = before
          })
      )
      const authority = yield* TestCertificates.make()
      const server = yield* serve(yield* authority.server())
      const failure = yield* failureOf(yield* secure("127.0.0.1", server.port, {}))
      assert.strictEqual(failure.delivery, "NotSent")
      assert.match(failure.details, /certificate/i)
    }))

  it.live("a channel presents a client certificate, and reads it again when it reconnects", () =>
    Effect.gen(function*() {
      const authority = yield* TestCertificates.make()
      const server = yield* serve({
        ...(yield* authority.server()),
        ca: authority.ca.cert,
        requestCert: true,
        rejectUnauthorized: true
      })
      let material: Effect.Effect<TlsMaterial, string> = Effect.fail("client.pem cannot be read")
      const channel = yield* secure("127.0.0.1", server.port, { material: Effect.suspend(() => material) })
      assert.strictEqual((yield* failureOf(channel)).details, "client.pem cannot be read")
      const certified = Effect.fnUntraced(function*(commonName: string) {
        const { cert, key } = yield* authority.client({ commonName })
        return { ca: authority.ca.cert, certificate: cert, key }
      })
      material = certified("first")
      yield* Effect.retry(Effect.tapError(call(channel), () => Effect.sleep("10 millis")), { times: 500 })
      material = certified("second")
      channel.reconnect()
      yield* Effect.repeat(call(channel), { until: () => server.seen.at(-1)!.client === "second" })
      assert.strictEqual(server.seen[0]!.client, "first")
    }))

  it.live("a channel reports what is wrong with a key without showing the key", () =>
    Effect.gen(function*() {
      const authority = yield* TestCertificates.make()
      const server = yield* serve(yield* authority.server())
      const channel = yield* secure("127.0.0.1", server.port, {
        material: trusting(authority, { certificate: "SECRET", key: "SECRET" })
      })
      const failure = yield* failureOf(channel)
      assert.match(failure.details, /TLS cannot be used/)
      assert.notMatch(failure.details, /SECRET/)
    }))

  it.live("a channel connects to no server without HTTP/2, and to none whose handshake never ends", () =>
    Effect.gen(function*() {
      const authority = yield* TestCertificates.make()
      const certificate = yield* authority.server()
      const server = Tls.createServer({ ...certificate }, (socket) => void socket.on("error", () => {}))
      yield* Effect.acquireRelease(
        Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
        () => Effect.sync(() => server.close())
      )
      const channel = yield* secure("127.0.0.1", (server.address() as Net.AddressInfo).port, {
        material: trusting(authority)
      })
      assert.match((yield* failureOf(channel)).details, /does not offer HTTP\/2/)
      const plain = yield* serve(undefined)
      const toPlain = yield* secure("127.0.0.1", plain.port, { material: trusting(authority) })
      assert.strictEqual((yield* failureOf(toPlain)).delivery, "NotSent")
    }))
})

describe("channels without TLS", () => {
  it.live("a channel connects to an IPv6 address", () =>
    Effect.gen(function*() {
      const server = yield* serve(undefined, { host: "::1", port: 0 })
      const channel = yield* Grpc.make({ target: { _tag: "Host", host: "::1", port: server.port, secure: false } })
      assert.strictEqual(yield* call(channel), "response")
      assert.strictEqual(server.seen[0]!.headers[":authority"], `[::1]:${server.port}`)
    }))

  it.live("a channel connects to a Unix socket", () =>
    Effect.gen(function*() {
      const path = yield* socketPath
      const server = yield* serve(undefined, { path })
      const channel = yield* Grpc.make({ target: { _tag: "Unix", path, secure: false } })
      assert.strictEqual(yield* call(channel), "response")
      assert.strictEqual(server.seen[0]!.headers[":authority"], "localhost")
    }))

  it.live("a channel resolves localhost through the system resolver", () =>
    Effect.gen(function*() {
      const server = yield* serve(undefined)
      const channel = yield* Grpc.make({
        target: { _tag: "Host", host: "localhost", port: server.port, secure: false }
      })
      assert.strictEqual(yield* call(channel), "response")
    }))

  it.live("a request has gRPC's headers and its metadata, and its sensitive metadata is never indexed", () =>
    Effect.gen(function*() {
      const server = yield* serve(undefined)
      const channel = yield* channelTo(server.port)
      yield* call(channel, "x", {
        metadata: { token: "secret", hasleader: "true" },
        sensitive: ["token"],
        timeout: 30_000
      })
      const { headers } = server.seen[0]!
      assert.strictEqual(headers[":method"], "POST")
      assert.strictEqual(headers[":path"], "/test.Service/Method")
      assert.strictEqual(headers["te"], "trailers")
      assert.strictEqual(headers["content-type"], "application/grpc")
      assert.strictEqual(headers["token"], "secret")
      assert.strictEqual(headers["hasleader"], "true")
      assert.match(headers["grpc-timeout"] as string, /^(30000|2\d{4})m$/)
      assert.deepStrictEqual(headers[Http2.sensitiveHeaders], ["token"])
    }))
})
