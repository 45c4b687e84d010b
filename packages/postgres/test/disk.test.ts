/**
 * A server that cannot write its files, as on a full disk: the kernel limits the size of its files (RLIMIT_FSIZE), which
 * needs no rights, and can be raised again.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import { PostgresServer, Recorder, RevisionChecker, Violation } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as Crypto from "node:crypto"
import * as Fs from "node:fs"
import { holding } from "./support/backends.ts"
import { changesUpTo } from "./support/history.ts"
import { checked, record } from "./support/recorded.ts"
import { connect, database } from "./support/store.ts"
import { untilTrue } from "./support/until.ts"

/** Limits the size of all files that the server writes. */
const limitFiles = Effect.fnUntraced(function*(bytes: number | "unlimited") {
  const server = yield* PostgresServer.PostgresServer
  const pid = yield* server.pid
  const children = Fs.readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ")
  for (const each of [`${pid}`, ...children]) {
    const command = ["prlimit", "--pid", each, `--fsize=${bytes}:`]
    // The kernel lets a process limit those of its own user.
    const asOwner = process.getuid?.() === 0 ? ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] : []
    const [program, ...args] = [...asOwner, ...command]
    const { status, stderr } = ChildProcess.spawnSync(program!, args, { encoding: "utf8" })
    // A process, such as one that vacuums, may have ended since. Those that start have the limit of the first one.
    if (!/No such process/.test(stderr)) assert.strictEqual(status, 0, stderr)
  }
})

const test = (
  title: string,
  body: Effect.Effect<void, unknown, PgClient.PgClient | PostgresServer.PostgresServer | Scope.Scope>
) =>
  it.live(
    title,
    () =>
      Effect.scoped(body).pipe(
        Random.withSeed("disk"),
        Effect.provide(database),
        Effect.provide(PostgresServer.layer())
      ),
    180_000
  )

/**
 * The client pauses for half of the longest time before it makes a write again. So the last attempt has as much time before
 * the deadline, also on a busy machine: one without a response would be of unknown outcome.
 */
const shortestPauses: (typeof Random.Random)["Service"] = { nextIntUnsafe: () => 0, nextDoubleUnsafe: () => 0 }

const value = (): Uint8Array => Crypto.randomBytes(700_000)

describe("a Postgres server that cannot write", () => {
  test(
    "rejects the writes that have no space with a typed error, applies none by half, and the client recovers",
    Effect.provideService(Random.Random, shortestPauses)(Effect.gen(function*() {
      const recorder = yield* Recorder.make
      const kv = Context.get(yield* connect(), Kv.Kv)
      const backend = recorder.client("a")(backendOf(kv))
      yield* backend.execute(Op.put("first", "1"))
      // A file of the log of the server has 16 MiB. No table has, so far.
      yield* limitFiles(17 * 1024 * 1024)
      const pair = (i: number, deadline: Duration.Input = "2 seconds") =>
        backend.execute(Op.txn({ then: [Op.put(`a/${i}`, value()), Op.put(`b/${i}`, value())] })).pipe(
          Deadline.within(deadline),
          Effect.result
        )
      let failed = 0
      for (let i = 0; failed < 3 && i < 60; i++) {
        const result = yield* pair(i)
        // On a busy machine an attempt may be in flight at the deadline. The history shows what became of it.
        if (Result.isSuccess(result) || result.failure.reason._tag === "Indeterminate") continue
        failed++
        assert.include(["Unavailable", "QuotaExceeded"], result.failure.reason._tag, result.failure.message)
      }
      assert.strictEqual(failed, 3)
      yield* backend.execute(Op.put("small", "1"))
      yield* limitFiles("unlimited")
      assert.isTrue(Result.isSuccess(yield* pair(1000, "20 seconds")))
      const { revision } = yield* backend.execute(Op.put("last", "1"))
      const history = yield* recorder.history
      const { violations } = RevisionChecker.check(history, yield* changesUpTo(revision))
      assert.deepStrictEqual(violations, [], Violation.print(history, violations))
    }))
  )

  test(
    "histories are correct when the server crashes because it cannot write its log",
    Effect.gen(function*() {
      const server = yield* PostgresServer.PostgresServer
      const hasCrashed = Effect.map(server.log, (log) => /PANIC|aborting startup/.test(log))
      const run = yield* record({ operations: 50, locks: false }, ({ calls, whileRunning }) =>
        Effect.gen(function*() {
          yield* calls(150)
          // Less than what the server's log of writes has by now, and more than the log of its messages has.
          yield* limitFiles(128 * 1024)
          yield* whileRunning(
            untilTrue("the server to crash", hasCrashed, { within: "50 seconds" })
          )
          yield* server.restart
        }))
      checked(run)
    })
  )

  it.live(
    "fails writes with Unavailable while the queue of notifications is full, until it has space again",
    () =>
      Effect.gen(function*() {
        const kv = Context.get(yield* connect(), Kv.Kv)
        // The check of the schema is no part of the time of a write below.
        yield* kv.put("before", "1")
        const { url } = yield* PostgresServer.PostgresServer
        const listener = yield* PgClient.make({ url: Redacted.make(url), maxConnections: 1 })
        // It listens, and then is in a transaction for so long that the server keeps all notifications for it.
        yield* listener`listen anything`
        const end = yield* holding(listener, "select 1")
        const put = (i: number) => Deadline.within(kv.put(`${"k".repeat(2900)}${i}`, "v"), "2 seconds")
        const failure = yield* Effect.flip(Effect.forEach(Array.from({ length: 200 }, (_, i) => i), put))
        assert.strictEqual(failure.reason._tag, "Unavailable", failure.message)
        assert.include(failure.message, "NOTIFY")
        yield* end
        yield* Deadline.within(kv.put("after", "1"), "20 seconds")
      }).pipe(
        Effect.scoped,
        Effect.provideService(Random.Random, shortestPauses),
        Effect.provide(Reactivity.layer),
        Effect.provide(database),
        Effect.provide(PostgresServer.layer({ settings: { max_notify_queue_pages: "64" } }))
      ),
    180_000
  )
})
