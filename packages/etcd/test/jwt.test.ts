/**
 * JSON web tokens. Every change of users and roles makes them stale, because the server keeps no token state.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import { backendOf } from "@effect-kv/core/KvInternals"
import { EtcdCluster } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { generateKeyPairSync } from "node:crypto"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { client } from "./support/client.ts"
import { batchesUpTo, linesOf, watch } from "./support/watching.ts"

const signing = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "effect-kv-jwt-"))),
    (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true }))
  ),
  (folder) => {
    const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 })
    const files = { priv: Path.join(folder, "private.pem"), pub: Path.join(folder, "public.pem") }
    Fs.writeFileSync(files.priv, privateKey.export({ type: "pkcs1", format: "pem" }))
    Fs.writeFileSync(files.pub, publicKey.export({ type: "spki", format: "pem" }))
    return `jwt,pub-key=${files.pub},priv-key=${files.priv},sign-method=RS256,ttl=10m`
  }
)

/** A cluster that issues JSON web tokens, and a client of it. */
const withTokens = Effect.gen(function*() {
  const cluster = yield* EtcdCluster.make({ flags: { "auth-token": yield* signing } })
  yield* cluster.enableAuth({
    rootPassword: "root",
    users: [{ name: "app", password: "app", permissions: [{ permission: "readwrite", prefix: "app/" }] }]
  })
  const kv = yield* client({
    endpoints: cluster.endpoints,
    auth: { username: "app", password: Redacted.make("app") }
  })
  return { cluster, kv }
})

describe("JSON web tokens", () => {
  it.live(
    "a JSON web token that a change of roles made stale is replaced for reads and writes, and writes are applied once",
    () =>
      Effect.gen(function*() {
        const { cluster, kv } = yield* withTokens
        yield* kv.put("app/x", "1")
        const { id } = yield* backendOf(kv).leaseGrant({ ttl: "60 seconds" })
        yield* cluster.etcdctl(["role", "add", "first"])
        yield* kv.put("app/x", "2")
        yield* cluster.etcdctl(["role", "add", "second"])
        assert.deepStrictEqual(yield* kv.get("app/x"), Option.some("2"))
        assert.strictEqual(Option.getOrThrow(yield* kv.getEntry("app/x")).version, 2)
        yield* cluster.etcdctl(["role", "add", "third"])
        yield* backendOf(kv).leaseKeepAlive(id)
        yield* backendOf(kv).leaseRevoke(id)
      }),
    60_000
  )

  it.live(
    "a JSON web token that a change of roles made stale neither prevents opening a watch nor ends an open one",
    () =>
      Effect.gen(function*() {
        const { cluster, kv } = yield* withTokens
        const old = yield* watch(kv, KeyRange.prefix("app/"))
        yield* cluster.etcdctl(["role", "add", "first"])
        const late = yield* watch(kv, KeyRange.prefix("app/"))
        const { revision } = yield* kv.put("app/x", "1")
        for (const watcher of [old, late]) {
          assert.deepStrictEqual(linesOf(yield* batchesUpTo(watcher, revision)), [`${revision} put app/x=1`])
        }
      }),
    60_000
  )
})
