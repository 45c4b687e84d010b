/**
 * The connection by flags and by variables, on an etcd that requires certificates and a password.
 */
import { EtcdCluster, TestCertificates } from "@effect-kv/test-suite/verification"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as program from "./support/program.ts"

const password = "correct horse battery staple"

interface Server {
  readonly url: string
  readonly ca: string
  readonly client: TestCertificates.Certificate
}

const Server: Context.Service<Server, Server> = Context.Service<Server>("@effect-kv/cli/test/Server")

const server = Layer.effect(
  Server,
  Effect.gen(function*() {
    const authority = yield* TestCertificates.make()
    const client = yield* authority.client({ commonName: "nobody" })
    const cluster = yield* EtcdCluster.make({
      tls: {
        server: yield* authority.server(),
        ca: authority.ca,
        client: yield* authority.client({ commonName: "root" })
      }
    })
    yield* cluster.enableAuth({
      rootPassword: "root",
      users: [{ name: "app", password, permissions: [{ permission: "readwrite", prefix: "app/" }] }]
    })
    return { url: cluster.endpoints[0]!, ca: authority.ca.certFile, client }
  })
)

const lock = Effect.fnUntraced(function*(flags: ReadonlyArray<string>, env: Record<string, string>) {
  const args = [yield* program.Program, "lock", "n", ...flags, "--", "echo", "held"]
  const running = yield* program.start(process.execPath, args, env)
  return { code: yield* running.end, output: running.output(), results: running.results() }
})

layer(Layer.merge(server, program.layer), { excludeTestServices: true, timeout: "60 seconds" })("connection", (it) => {
  it.effect("Certificates, user and prefix can be given as flags", () =>
    Effect.gen(function*() {
      const { ca, client, url } = yield* Server
      const certificates = ["--ca", ca, "--cert", client.certFile, "--key", client.keyFile]
      const flags = ["--url", url, "--prefix", "app/", "--user", "app", ...certificates]
      assert.deepInclude(yield* lock(flags, { ETCD_PASSWORD: password }), { code: 0, results: "held\n" })
    }))

  it.effect("Certificates and prefix can be given as variables, and the user in the URL", () =>
    Effect.gen(function*() {
      const { ca, client, url } = yield* Server
      const withUser = (password: string) => url.replace("://", `://app:${encodeURIComponent(password)}@`)
      const env = {
        KV_URL: withUser(password),
        KV_PREFIX: "app/",
        KV_TIMEOUT: "10s",
        ETCD_CA_FILE: ca,
        ETCD_CERT_FILE: client.certFile,
        ETCD_KEY_FILE: client.keyFile
      }
      assert.deepInclude(yield* lock([], env), { code: 0, results: "held\n" })
      const elsewhere = yield* lock(["--prefix", "elsewhere/"], env)
      assert.strictEqual(elsewhere.code, 77)
      assert.match(elsewhere.output, /PermissionDenied/)
      const wrong = yield* lock([], { ...env, KV_URL: withUser("wrong") })
      assert.strictEqual(wrong.code, 77)
      assert.match(wrong.output, /Unauthenticated/)
      const noFile = yield* lock(["--ca", "/no/such/file"], env)
      assert.strictEqual(noFile.code, 78)
      assert.match(noFile.output, /\/no\/such\/file/)
      const noDuration = yield* lock([], { ...env, KV_TIMEOUT: "soon" })
      assert.deepInclude(noDuration, {
        code: 78,
        output: `effect-kv: KV_TIMEOUT must be a duration such as 500ms or 10s, not "soon"\n`
      })
    }))
})
