/**
 * `doctor` on broken set-ups of real servers: each is named rightly, and nothing else is.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import type * as EtcdStatus from "@effect-kv/etcd/EtcdStatus"
import { EtcdBinaries, EtcdCluster, TestCertificates } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { createServer, type Server } from "node:http"
import * as members from "../src/doctor/members.ts"
import * as reaching from "../src/doctor/reaching.ts"
import * as inProcess from "./support/inProcess.ts"

interface Finding {
  readonly code: string
  readonly severity: string
  readonly message: string
  readonly advice: string
}

/** The result of one run. */
const examinedOnce = Effect.fnUntraced(function*(env: Record<string, string>, args: ReadonlyArray<string>) {
  const result = yield* inProcess.run(["doctor", "--json", ...args], { env })
  const found: { readonly findings: ReadonlyArray<Finding>; readonly isHealthy: boolean } = inProcess.json(result)
  const wrong = found.findings.filter(({ severity }) => severity !== "Ok")
  assert.strictEqual(result.code, found.isHealthy ? 0 : 1)
  for (const { advice, message } of wrong) assert.isTrue(message !== "" && advice !== "")
  return {
    codes: wrong.map(({ code }) => code),
    wrong,
    ok: found.findings.filter(({ severity }) => severity === "Ok"),
    text: result.out
  }
})

/** What is wrong, by the codes of the findings. Only renewals are judged by their time, which a busy machine prolongs. */
const examined = (env: Record<string, string>, args: ReadonlyArray<string> = []) =>
  Effect.repeat(examinedOnce(env, ["--timeout", "20s", ...args]), {
    until: ({ codes }) => !codes.includes("slow-renewals"),
    times: 9
  })

/** The same for an endpoint that cannot be used, which takes the whole time-out. There may be no result by then. */
const unreached = (env: Record<string, string>, timeout = "2s") =>
  Effect.repeat(examinedOnce(env, ["--timeout", timeout]), {
    until: ({ codes }) => !codes.includes("endpoint-unreachable"),
    times: 9
  })

/** Examinations that do not change the server run at the same time: most of them wait for a deadline. */
const together = { concurrency: "unbounded" } as const

const plain = EtcdCluster.make()

/** A server with TLS, its authority, and the environment that is right for it. */
const secure = Effect.fnUntraced(function*(isMutual: boolean) {
  const authority = yield* TestCertificates.make()
  const client = isMutual ? yield* authority.client() : undefined
  const cluster = yield* EtcdCluster.make({ tls: { server: yield* authority.server(), ca: authority.ca, client } })
  return { authority, KV_URL: cluster.endpoints[0]!, ETCD_CA_FILE: authority.ca.certFile }
})

describe.concurrent("doctor", () => {
  it.live("A healthy cluster is healthy: every endpoint, a quorum, renewals and a lock, and nothing is left", () =>
    Effect.gen(function*() {
      const { endpoints, etcdctl } = yield* plain
      const { codes, ok } = yield* examined({ KV_URL: endpoints[0]! })
      assert.deepStrictEqual(codes, [])
      assert.deepStrictEqual(ok.map(({ code }) => code), ["endpoint", "quorum", "renewals", "lock"])
      assert.match(ok[0]!.message, /responds after \d+ ms: etcd 3\.\d+\.\d+, the leader/)
      assert.strictEqual((yield* etcdctl(["get", "--prefix", "--keys-only", ""])).trim(), "")
      assert.strictEqual((yield* etcdctl(["lease", "list"])).trim(), "found 0 leases")
      const text = yield* inProcess.run(["doctor"], { env: { KV_URL: endpoints[0]! } })
      assert.match(text.out, /^http:\/\/127\.0\.0\.1:\d+\nok {7}http/)
    }))

  it.live("doctor reports a wrong port, TLS to a server without it, and flags that contradict the URL", () =>
    Effect.gen(function*() {
      const { endpoints } = yield* plain
      const [wrongPort, wrongScheme, contradiction] = yield* Effect.all([
        unreached({ KV_URL: "http://127.0.0.1:1" }),
        unreached({ KV_URL: endpoints[0]!.replace("http:", "https:") }),
        examined({ KV_URL: endpoints[0]!, ETCD_CA_FILE: "ca.pem" })
      ], together)
      assert.deepStrictEqual(wrongPort.codes, ["connection-refused"])
      assert.deepStrictEqual(wrongScheme.codes, ["server-speaks-plain"])
      assert.deepStrictEqual(contradiction.codes, ["configuration"])
      assert.include(contradiction.wrong[0]!.message, "https")
    }))

  it.live("doctor reports plain text to a server with TLS, an unknown authority and a wrong server name", () =>
    Effect.gen(function*() {
      const { authority: _, ...env } = yield* secure(false)
      const other = yield* TestCertificates.make("another authority")
      const [right, plainText, unknown, wrong, otherName, unverified] = yield* Effect.all([
        examined(env),
        unreached({ KV_URL: env.KV_URL.replace("https:", "http:") }),
        unreached({ KV_URL: env.KV_URL }),
        unreached({ ...env, ETCD_CA_FILE: other.ca.certFile }),
        unreached({ ...env, ETCD_SERVER_NAME: "etcd.example" }),
        examined({ KV_URL: env.KV_URL }, ["--insecure-skip-verify"])
      ], together)
      assert.deepStrictEqual(right.codes, [])
      assert.deepStrictEqual(plainText.codes, ["server-wants-tls"])
      assert.deepStrictEqual(unknown.codes, ["unknown-authority"])
      assert.deepStrictEqual(wrong.codes, ["unknown-authority"])
      assert.deepStrictEqual(otherName.codes, ["server-name-mismatch"])
      assert.deepStrictEqual(unverified.codes, ["unverified"])
    }))

  it.live("doctor reports a client certificate that is missing, expired or of another authority", () =>
    Effect.gen(function*() {
      const { authority, ...env } = yield* secure(true)
      const other = yield* TestCertificates.make("another authority")
      const certified = ({ certFile, keyFile }: Pick<TestCertificates.Certificate, "certFile" | "keyFile">) => ({
        ...env,
        ETCD_CERT_FILE: certFile,
        ETCD_KEY_FILE: keyFile
      })
      const [right, missing, expired, foreign, noFile] = yield* Effect.all([
        examined(certified(yield* authority.client())),
        unreached(env),
        unreached(certified(yield* authority.client({ validFrom: { hours: -2 }, validUntil: { hours: -1 } }))),
        unreached(certified(yield* other.client())),
        unreached(certified({ certFile: "/nowhere.pem", keyFile: "/nowhere.key" }))
      ], together)
      assert.deepStrictEqual(right.codes, [])
      assert.deepStrictEqual(missing.codes, ["client-certificate-missing"])
      assert.deepStrictEqual(expired.codes, ["client-certificate-expired"])
      assert.deepStrictEqual(foreign.codes, ["client-certificate-rejected"])
      assert.deepStrictEqual(noFile.codes, ["configuration"])
    }))

  it.live("doctor reports a wrong password, missing credentials and a missing permission, and shows no password; locks suggests a prefix", () =>
    Effect.gen(function*() {
      const cluster = yield* plain
      yield* cluster.enableAuth({
        rootPassword: "root",
        users: [{ name: "app", password: "s3cr3t", permissions: [{ permission: "readwrite", prefix: "app/" }] }]
      })
      const env = { KV_URL: cluster.endpoints[0]!, ETCD_USER: "app", ETCD_PASSWORD: "s3cr3t", KV_PREFIX: "app/" }
      const [right, wrong, missing, denied, inUrl] = yield* Effect.all([
        examined(env),
        examined({ ...env, ETCD_PASSWORD: "h4nter2" }),
        examined({ KV_URL: env.KV_URL, KV_PREFIX: "app/" }),
        examined({ ...env, KV_PREFIX: "other/" }),
        examined({ KV_URL: env.KV_URL.replace("//", "//app:h4nter2@") })
      ], together)
      assert.deepStrictEqual(right.codes, [])
      for (const { codes, text, wrong: [found] } of [wrong, inUrl]) {
        assert.deepStrictEqual(codes, ["credentials-wrong"])
        assert.include(found!.message, `"app"`)
        assert.notInclude(text, "h4nter2")
      }
      assert.deepStrictEqual(missing.codes, ["credentials-missing"])
      assert.deepStrictEqual(denied.codes, ["permission-denied"])
      assert.include(denied.wrong[0]!.message, `may not read the keys under "other/effect-kv-doctor/"`)
      const { KV_PREFIX: _, ...whole } = env
      const all = yield* inProcess.run(["locks"], { env: whole })
      assert.strictEqual(all.code, 77)
      assert.include(all.err, "give a PREFIX of names that it may read")
      assert.strictEqual((yield* inProcess.run(["locks", "app/"], { env: whole })).out, "no locks under app/\n")
      yield* cluster.etcdctl(["role", "grant-permission", "role-of-app", "read", "--prefix=true", "other/"])
      const readOnly = yield* examined({ ...env, KV_PREFIX: "other/" })
      assert.deepStrictEqual(readOnly.codes, ["permission-denied"])
      assert.include(readOnly.wrong[0]!.message, "may not write")
    }))

  it.live("doctor reports the alarm of a full database", () =>
    Effect.gen(function*() {
      const { endpoints } = yield* EtcdCluster.make({ flags: { "quota-backend-bytes": 2 * 1024 * 1024 } })
      const kv = Context.get(yield* Layer.build(EtcdLayer.layer({ endpoints })), Kv.Kv)
      const fill = Effect.forever(kv.put("big", new Uint8Array(1024 * 1024)))
      const error = yield* Effect.flip(fill)
      assert.strictEqual(error.reason._tag, "QuotaExceeded")
      const { codes, wrong } = yield* examined({ KV_URL: endpoints[0]! })
      assert.deepStrictEqual(codes, ["alarm-nospace"])
      assert.include(wrong[0]!.advice, "etcdctl alarm disarm")
      assert.strictEqual(yield* kv.count(KeyRange.prefix("effect-kv-doctor/")), 0)
    }))

  it.live("doctor reports an endpoint that is down, and the loss of the quorum", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.make({ members: 3 })
      const KV_URL = `http://${cluster.endpoints.map((endpoint) => endpoint.slice("http://".length)).join(",")}`
      assert.deepStrictEqual((yield* examined({ KV_URL })).codes, [])
      const [first, second, third] = cluster.members
      yield* first!.kill
      yield* second!.awaitHealthy
      const oneDown = yield* unreached({ KV_URL }, "5s")
      assert.deepStrictEqual(oneDown.codes, ["connection-refused"])
      assert.include(oneDown.wrong[0]!.message, first!.endpoint)
      assert.include(oneDown.ok.map(({ code }) => code), "lock")
      yield* second!.kill
      const lost = yield* Effect.repeat(unreached({ KV_URL: third!.endpoint }), {
        until: ({ codes }) => codes.includes("no-leader"),
        times: 5
      })
      assert.deepStrictEqual(lost.codes, ["no-leader", "no-quorum"])
    }), 60_000)

  it.live("doctor reports an old version", () =>
    Effect.gen(function*() {
      const version = (yield* EtcdBinaries.provided).at(-1)!
      const { endpoints } = yield* EtcdCluster.make({ version })
      const { codes, ok } = yield* examined({ KV_URL: endpoints[0]! })
      const [, running] = /etcd (\S+?),/.exec(ok[0]!.message) ?? []
      assert.isTrue(running!.startsWith(version))
      assert.deepStrictEqual(codes, members.version("", running!).map(({ code }) => code))
      if (version === "3.4") assert.deepStrictEqual(codes, ["old-version"])
    }))
})

it("doctor reports versions that are unsupported, corrupt data or get no fixes, and no others", () => {
  const codes = (version: string) => members.version("http://a:2379", version).map(({ code }) => code)
  for (const version of ["3.5.8", "3.5.30", "3.6.0", "3.7.1", "4.0.0", "", "3.8.0-rc.1"]) {
    assert.deepStrictEqual(codes(version), [], version)
  }
  assert.deepStrictEqual(codes("3.3.27"), ["unsupported-version"])
  assert.deepStrictEqual(codes("3.4.38"), ["old-version"])
  assert.deepStrictEqual(codes("3.5.2"), ["corrupting-version"])
  assert.deepStrictEqual(codes("3.5.7"), ["old-version"])
})

describe("the statuses of members", () => {
  const status: EtcdStatus.Status = {
    version: "3.7.0",
    clusterId: 1n,
    memberId: 0xan,
    leader: Option.some(0xan),
    isLearner: false,
    revision: 7n,
    dbSize: 100,
    dbSizeInUse: 50,
    dbSizeQuota: Option.some(1000),
    alarms: []
  }
  const codes = (...statuses: ReadonlyArray<Partial<EtcdStatus.Status>>) =>
    members.findings(
      statuses.map((each, i) => ({
        endpoint: `http://m${i}:2379`,
        status: Result.succeed({ ...status, ...each }),
        took: Duration.millis(1)
      })),
      { certificate: undefined, hasAuthority: false },
      0
    ).flatMap(({ code, severity }) => severity === "Ok" ? [] : [code])

  it("doctor reports a database that is nearly full, a learner, and each alarm once", () => {
    assert.deepStrictEqual(codes({}, {}), [])
    assert.deepStrictEqual(codes({ dbSize: 800 }), ["nearly-full"])
    assert.deepStrictEqual(codes({ dbSize: 800, dbSizeQuota: Option.none() }), [])
    assert.deepStrictEqual(codes({}, { isLearner: true }), ["learner"])
    const alarms = [{ memberId: 0xan, kind: "CORRUPT" }, { memberId: 0xbn, kind: "NEWER" }]
    assert.deepStrictEqual(codes({ alarms }, { alarms }), ["alarm-corrupt", "alarm"])
  })

  it("A member that cannot check credentials without a quorum is not mistaken for one that does not respond", () => {
    const { code } = reaching.finding("http://a:2379", "Unavailable: http://a:2379: etcdserver: no leader", {
      certificate: undefined,
      hasAuthority: false
    }, 0)
    assert.strictEqual(code, "no-leader")
  })

  for (const url of ["127.0.0.1:2379", "etcd://127.0.0.1:2379", "http://bob:s3c/r3t@h:1"]) {
    it.effect(`The URL ${url} is reported as wrong, without its password`, () =>
      Effect.gen(function*() {
        const { codes, text } = yield* examinedOnce({ KV_URL: url }, [])
        assert.deepStrictEqual(codes, ["configuration"])
        assert.notMatch(text, /s3c|r3t|bob/)
      }))
  }

  it.live("The peers' port, which speaks HTTP/1, is not mistaken for one with TLS", () =>
    Effect.gen(function*() {
      const peers = yield* Effect.acquireRelease(
        Effect.callback<Server>((resume) => {
          const server = createServer().listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.sync(() => server.close())
      )
      const address = peers.address()
      assert.isObject(address)
      const { codes } = yield* unreached({ KV_URL: `http://127.0.0.1:${Object(address).port}` }, "500ms")
      assert.deepStrictEqual(codes, ["not-etcd"])
    }))

  it("doctor reports endpoints of several clusters", () => {
    assert.deepStrictEqual(codes({}, { clusterId: 2n }), ["several-clusters"])
  })
})
