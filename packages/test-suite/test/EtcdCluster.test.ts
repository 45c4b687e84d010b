import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as EtcdBinaries from "../src/verification/etcd/EtcdBinaries.ts"
import * as EtcdCluster from "../src/verification/etcd/EtcdCluster.ts"
import * as TestCertificates from "../src/verification/TestCertificates.ts"

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

const until = (what: string, condition: () => boolean) =>
  Effect.repeat(Effect.sync(condition), { until: (value) => value, schedule: Schedule.spaced("10 millis") }).pipe(
    Effect.timeoutOrElse({ duration: "10 seconds", orElse: () => Effect.die(new Error(`not within 10 s: ${what}`)) })
  )

const put = (cluster: EtcdCluster.EtcdCluster["Service"], key: string, value: string, endpoint?: string) =>
  cluster.etcdctl(["put", "--", key, value], { endpoint })

const get = (cluster: EtcdCluster.EtcdCluster["Service"], key: string, options?: EtcdCluster.EtcdctlOptions) =>
  Effect.map(cluster.etcdctl(["get", "--print-value-only", "--", key], options), (value) => value.trimEnd())

layer(EtcdCluster.layer(), { excludeTestServices: true })("EtcdCluster with one member", (it) => {
  it.effect("a member keeps its data and its port after SIGKILL and a start", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.EtcdCluster
      yield* put(cluster, "kept", "1")
      const before = yield* cluster.member.pid
      yield* cluster.member.kill
      assert.isFalse(yield* cluster.member.isRunning)
      assert.isFalse(yield* cluster.member.isHealthy)
      assert.isFalse(isAlive(before!))
      yield* cluster.member.start
      assert.notStrictEqual(yield* cluster.member.pid, before)
      assert.strictEqual(yield* get(cluster, "kept", { endpoint: cluster.endpoints[0] }), "1")
      yield* cluster.member.stop
      assert.isFalse(yield* cluster.member.isRunning)
      yield* cluster.member.restart
      assert.strictEqual(yield* get(cluster, "kept"), "1")
    }))

  it.effect("a paused member responds to no client, and continues when resumed", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.EtcdCluster
      yield* put(cluster, "paused", "1")
      yield* cluster.member.pause
      assert.isTrue(yield* cluster.member.isRunning)
      assert.isFalse(yield* cluster.member.isHealthy)
      const silent = yield* Effect.flip(cluster.etcdctl(["get", "paused", "--command-timeout=300ms"]))
      assert.match(silent.message, /deadline exceeded/)
      yield* cluster.member.resume
      assert.strictEqual(yield* get(cluster, "paused"), "1")
    }))

  // Only Linux reports the state of threads.
  it.effect.runIf(process.platform === "linux")(
    "has no thread that runs when pause has returned",
    () =>
      Effect.gen(function*() {
        const { endpoints: [endpoint], member } = yield* EtcdCluster.EtcdCluster
        const tasks = `/proc/${yield* member.pid}/task`
        const states = () =>
          Fs.readdirSync(tasks).map((id) => Fs.readFileSync(`${tasks}/${id}/stat`, "utf8").split(") ")[1]?.[0])
        for (let i = 0; i < 50; i++) {
          yield* Effect.promise(() => fetch(`${endpoint}/version`))
          yield* member.pause
          const now = states()
          yield* member.resume
          assert.deepStrictEqual(now, now.map(() => "T"))
        }
      })
  )

  it.effect("watchFrom records every change of the store, across restarts of the server", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.EtcdCluster
      const first = (yield* cluster.revision) + 1n
      const history = yield* cluster.watchFrom(first)
      yield* put(cluster, "h", "ä")
      yield* cluster.member.restart
      yield* put(cluster, "h", "")
      yield* cluster.etcdctl(["txn"], { stdin: "\nput h x\nput i y\n\n\n" })
      yield* cluster.etcdctl(["del", "h"])
      const events = yield* history.upTo(first + 3n)
      assert.deepStrictEqual(
        events.map((event) => [event.type, event.key, event.value, event.modRevision - first, event.version]),
        [
          ["put", "h", "ä", 0n, 1n],
          ["put", "h", "", 1n, 2n],
          ["put", "h", "x", 2n, 3n],
          ["put", "i", "y", 2n, 1n],
          ["delete", "h", "", 3n, 0n]
        ]
      )
      assert.strictEqual(events[2]!.createRevision, first)
      assert.strictEqual(events[4]!.createRevision, 0n)
      assert.lengthOf(yield* history.upTo(first + 1n), 2)
    }))

  it.effect("compact removes the history before the revision, and defragment succeeds", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.EtcdCluster
      yield* put(cluster, "c", "1")
      yield* put(cluster, "c", "2")
      yield* cluster.compact(yield* cluster.revision)
      const gone = yield* Effect.flip(cluster.etcdctl(["get", "c", "--rev=2"]))
      assert.match(gone.message, /compacted/)
      const history = yield* cluster.watchFrom(1n)
      const rejected = yield* Effect.flip(history.upTo(2n))
      assert.match(rejected.message, /compacted/)
      yield* cluster.defragment
      yield* cluster.wipe
      assert.strictEqual(yield* cluster.etcdctl(["get", "", "--prefix"]), "")
    }))

  it.effect("metrics have the number of watches of the server", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.EtcdCluster
      const watches = Effect.map(cluster.metrics(), (metrics) => metrics.get("etcd_debugging_mvcc_watcher_total"))
      const untilWatches = (wanted: number) =>
        Effect.repeat(watches, { until: (count) => count === wanted, schedule: Schedule.spaced("10 millis") }).pipe(
          Effect.timeout("10 seconds")
        )
      yield* untilWatches(0)
      yield* Effect.scoped(Effect.andThen(cluster.watchFrom(1_000_000n), untilWatches(1)))
      yield* untilWatches(0)
      assert.isAbove((yield* cluster.metrics()).get("grpc_server_handled_total"), 0)
    }))

  it.effect("a failed etcdctl is a typed error with its output", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.EtcdCluster
      const failed = yield* Effect.flip(cluster.etcdctl(["lease", "revoke", "123"]))
      assert.strictEqual(failed._tag, "EtcdClusterError")
      assert.match(failed.message, /lease not found/)
      const unsendable = yield* Effect.flip(cluster.etcdctl(["get", "\0"]))
      assert.strictEqual(unsendable._tag, "EtcdClusterError")
    }))
})

for (const version of await Effect.runPromise(EtcdBinaries.provided)) {
  describe(`EtcdCluster, etcd ${version}`, () => {
    it.live(
      "a cluster of three moves its leader, survives the loss of any member, and recovers",
      () =>
        Effect.gen(function*() {
          const cluster = yield* EtcdCluster.make({ version, members: 3 })
          assert.lengthOf(cluster.endpoints, 3)
          const [first, second] = cluster.members
          const moved = yield* cluster.moveLeader(first)
          assert.strictEqual(moved, first)
          yield* cluster.moveLeader(second)
          assert.strictEqual(yield* cluster.leader, second)

          yield* second!.kill
          const next = yield* cluster.leader
          assert.notStrictEqual(next, second)
          yield* put(cluster, "quorum", "stays")
          yield* next.pause
          const minority = yield* Effect.flip(cluster.etcdctl(["put", "quorum", "lost", "--command-timeout=500ms"]))
          assert.match(minority.message, /deadline exceeded|timed out/)
          yield* next.resume
          yield* cluster.startAll
          for (const endpoint of cluster.endpoints) {
            const value = yield* get(cluster, "quorum", { endpoint })
            // A write that was reported as failed may have been applied later.
            assert.include(["stays", "lost"], value)
          }
          yield* cluster.killAll
          yield* Effect.forEach(cluster.members, (member) => member.launch)
          yield* cluster.awaitHealthy
        }),
      60_000
    )

    it.live(
      "watchFrom continues after a time without a leader, which ends every watch of etcdctl",
      () =>
        Effect.gen(function*() {
          const cluster = yield* EtcdCluster.make({ version, members: 3 })
          const history = yield* cluster.watchFrom()
          yield* put(cluster, "leader", "before")
          yield* history.upTo(2n)
          const [first, second, third] = cluster.members
          yield* first!.kill
          yield* second!.kill
          // The remaining member has no leader, and rejects or ends the watch.
          const rejected = Effect.map(
            cluster.metrics(third),
            ({ series }) =>
              [...series].some(([name, count]) =>
                count > 0 && name.startsWith("grpc_server_handled_total") &&
                name.includes("grpc_code=\"Unavailable\"") &&
                name.includes("grpc_method=\"Watch\"")
              )
          )
          yield* Effect.repeat(rejected, { until: (rejected) => rejected, schedule: Schedule.spaced("20 millis") })
            .pipe(
              Effect.timeout("20 seconds")
            )
          yield* cluster.startAll
          yield* put(cluster, "leader", "after")
          assert.deepStrictEqual((yield* history.upTo(3n)).map((event) => event.value), ["before", "after"])
        }),
      60_000
    )

    it.live("memberAdd and memberRemove change the members of the cluster", () =>
      Effect.gen(function*() {
        const cluster = yield* EtcdCluster.make({ version })
        yield* put(cluster, "before", "1")
        const added = yield* cluster.memberAdd
        assert.strictEqual(yield* get(cluster, "before", { endpoint: added.endpoint }), "1")
        assert.deepStrictEqual(yield* cluster.currentMembers, [cluster.member, added])
        yield* cluster.memberRemove(added)
        assert.isFalse(yield* added.isRunning)
        assert.deepStrictEqual(yield* cluster.currentMembers, [cluster.member])
        yield* put(cluster, "after", "1")
      }), 60_000)

    it.live(
      "a cluster serves over TLS, requires client certificates, and enforces the permissions of users",
      () =>
        Effect.gen(function*() {
          const authority = yield* TestCertificates.make()
          const cluster = yield* EtcdCluster.make({
            version,
            flags: { "auth-token-ttl": 4 },
            tls: { server: yield* authority.server(), ca: authority.ca, client: yield* authority.client() }
          })
          assert.match(cluster.endpoints[0]!, /^https:/)
          yield* put(cluster, "tls", "1")
          const without = yield* Effect.flip(
            cluster.etcdctl(["get", "tls", "--command-timeout=1s"], { env: { ETCDCTL_CERT: "", ETCDCTL_KEY: "" } })
          )
          assert.match(without.message, /certificate|deadline|closed|handshake/)

          yield* cluster.enableAuth({
            rootPassword: "root's own",
            users: [{ name: "client" }, {
              name: "app",
              password: "app's own",
              permissions: [{ permission: "readwrite", prefix: "app/" }, { permission: "read", key: "tls" }]
            }]
          })
          const asApp = { env: { ETCDCTL_USER: "app:app's own" } }
          yield* cluster.etcdctl(["put", "app/a", "1"], asApp)
          assert.strictEqual(yield* get(cluster, "tls", asApp), "1")
          const denied = yield* Effect.flip(cluster.etcdctl(["put", "tls", "2"], asApp))
          assert.match(denied.message, /permission denied/)
          const wrong = yield* Effect.flip(get(cluster, "tls", { env: { ETCDCTL_USER: "app:wrong" } }))
          assert.match(wrong.message, /authentication failed/)
          assert.strictEqual(yield* get(cluster, "app/a"), "1")
          yield* cluster.member.restart
          assert.strictEqual(yield* get(cluster, "app/a", asApp), "1")
          assert.strictEqual(yield* cluster.leader, cluster.member)
          const asCertificate = { env: { ETCDCTL_USER: "" } }
          assert.match((yield* Effect.flip(get(cluster, "tls", asCertificate))).message, /permission denied/)
        }),
      60_000
    )
  })
}

describe("EtcdCluster after its end", () => {
  it.live("no process and no file is left after the scope has closed, even if a member is paused", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const cluster = yield* EtcdCluster.make().pipe(Scope.provide(scope))
      yield* cluster.watchFrom().pipe(Scope.provide(scope))
      const pid = (yield* cluster.member.pid)!
      assert.isTrue(isAlive(pid))
      assert.isTrue(Fs.existsSync(cluster.directory))
      yield* cluster.member.pause
      yield* Scope.close(scope, Exit.void)
      assert.isFalse(isAlive(pid))
      assert.isFalse(Fs.existsSync(cluster.directory))
      assert.isFalse(Fs.existsSync(`${cluster.directory}.gone`))
    }))

  it.live("no process and no file is left if the cluster could not start", () =>
    Effect.gen(function*() {
      const files = Fs.readdirSync(Fs.existsSync("/dev/shm") ? "/dev/shm" : "/tmp")
      const failed = yield* Effect.flip(Effect.scoped(EtcdCluster.make({ flags: { "no-such-flag": true } })))
      assert.match(failed.message, /no-such-flag/)
      const mine = Fs.readdirSync(Fs.existsSync("/dev/shm") ? "/dev/shm" : "/tmp").filter((name) =>
        name.startsWith(`effect-kv-etcd-${process.pid}-`) && !files.includes(name)
      )
      assert.deepStrictEqual(mine, [])
    }))

  for (const signal of ["SIGKILL", "SIGINT"] as const) {
    it.live(
      `no process and no file is left after the owner got ${signal}`,
      () =>
        Effect.gen(function*() {
          const holder = yield* Effect.acquireRelease(
            Effect.sync(() =>
              ChildProcess.spawn(process.execPath, [Path.join(import.meta.dirname, "fixtures/holdCluster.ts")], {
                stdio: ["ignore", "pipe", "inherit"],
                // Its own process group, like a program run from a terminal.
                detached: true
              })
            ),
            (child) => Effect.sync(() => child.kill("SIGKILL"))
          )
          const text = yield* Effect.callback<string>((resume) => {
            holder.stdout.once("data", (chunk: Buffer) => resume(Effect.succeed(chunk.toString())))
          })
          const { directory, pid } = JSON.parse(text) as { readonly directory: string; readonly pid: number }
          assert.isTrue(isAlive(pid))
          const readPids = () =>
            Fs.readdirSync(Path.join(directory, "pids"))
              .map((file) => Number(Fs.readFileSync(Path.join(directory, "pids", file), "utf8")))
              .filter((pid) => pid > 0)
          yield* until("server and watch run", () => readPids().length === 2)
          const pids = readPids()
          assert.include(pids, pid)
          process.kill(-holder.pid!, signal)
          yield* until("processes ended", () => !pids.some(isAlive))
          yield* until("files removed", () => !Fs.existsSync(directory) && !Fs.existsSync(`${directory}.gone`))
        }),
      30_000
    )
  }
})
