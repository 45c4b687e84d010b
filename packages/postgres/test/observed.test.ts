/**
 * What an operator sees of a client on Postgres: the metrics and spans of calls, statements, lost responses and watches.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as KvMetrics from "@effect-kv/core/KvMetrics"
import type * as PostgresLayer from "@effect-kv/postgres/PostgresLayer"
import { PostgresServer, TcpProxy } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Redacted from "effect/Redacted"
import * as Tracer from "effect/Tracer"
import { inspect } from "node:util"
import { losingResponse } from "./support/backends.ts"
import { withoutBackground } from "./support/background.ts"
import { isolated, total } from "./support/metrics.ts"
import { connect } from "./support/store.ts"
import { untilTrue } from "./support/until.ts"

const secrets = { value: "a-value-that-is-a-secret", password: "a-password" }

/** The application's client of a server, whose URL has a password that the server does not demand. */
const clientOf = (port: number, options: { readonly user?: string; readonly maxConnections?: number } = {}) =>
  PgClient.make({
    url: Redacted.make(`postgres://${options.user ?? "postgres"}:${secrets.password}@127.0.0.1:${port}/postgres`),
    maxConnections: options.maxConnections ?? 10
  }).pipe(Effect.provide(Reactivity.layer))

const open = (pg: PgClient.PgClient, options?: PostgresLayer.Options) =>
  Effect.map(Effect.provideService(connect(options), PgClient.PgClient, pg), Context.get(Kv.Kv))

/** Runs a program with a tracer of its own, and returns the spans. Neither they nor the metrics have a secret. */
const spansOf = Effect.fnUntraced(function*<A, E, R>(program: Effect.Effect<A, E, R>) {
  const spans: Array<Tracer.NativeSpan> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  yield* Effect.withTracer(program, tracer)
  for (const span of spans) assert.strictEqual(span.status._tag, "Ended", span.name)
  const everything = inspect([spans, yield* Metric.snapshot], { depth: 12 })
  for (const secret of Object.values(secrets)) assert.notInclude(everything, secret)
  return spans
})

const find = (spans: ReadonlyArray<Tracer.NativeSpan>, name: string): Tracer.NativeSpan => {
  const span = spans.find((span) => span.name === name)
  assert.isDefined(span, `no span ${name} in ${spans.map(({ name }) => name)}`)
  return span!
}

const childrenOf = (spans: ReadonlyArray<Tracer.NativeSpan>, of: Tracer.NativeSpan) =>
  spans.filter(({ parent }) => Option.exists(parent, ({ spanId }) => spanId === of.spanId))

const attributesOf = ({ attributes }: Tracer.NativeSpan) => Object.fromEntries(attributes)

layer(PostgresServer.layer(), { excludeTestServices: true, timeout: "1 minute" })("what an operator sees", (it) => {
  it.effect("a call has a span with its database, schema and prefixes, and its statement as a child", () =>
    Effect.gen(function*() {
      const { port } = yield* PostgresServer.PostgresServer
      const pg = yield* clientOf(port)
      const inSchema = yield* open(pg)
      const inPrefix = yield* open(pg, { prefix: "app/" })
      const spans = yield* spansOf(Effect.gen(function*() {
        yield* Kv.prefixed(inSchema, "ada/").put("a", secrets.value)
        yield* Kv.prefixed(inPrefix, "ada/").get("a")
        yield* inSchema.get("a")
      }))
      const server = { "server.address": "127.0.0.1", "server.port": port }
      const put = find(spans, "put")
      assert.deepStrictEqual(attributesOf(put), {
        "db.system.name": "postgresql",
        "db.namespace": "postgres|effect_kv|ada/",
        "db.operation.name": "put",
        ...server
      })
      const statements = childrenOf(spans, put)
      const [statement] = statements.slice(-1)
      assert.strictEqual(statement!.name, "SELECT effect_kv.put_entries")
      assert.deepStrictEqual(attributesOf(statement!), {
        "db.system.name": "postgresql",
        "db.query.summary": "SELECT effect_kv.put_entries",
        ...server
      })
      const namespaces = spans.filter(({ name }) => name === "range").map(({ attributes }) =>
        attributes.get("db.namespace")
      )
      assert.deepStrictEqual(namespaces, ["postgres|effect_kv|app/ada/", "postgres|effect_kv"])
      const labels = { "db.system.name": "postgresql", "db.namespace": "postgres|effect_kv|app/" }
      assert.strictEqual(yield* total(KvMetrics.operationDuration, { ...labels, "db.operation.name": "range" }), 1)
      assert.isAbove(
        yield* total(KvMetrics.poolWait, { "server.address": "127.0.0.1", "server.port": `${port}` }),
        2
      )
    }).pipe(isolated))

  it.effect("a batch has its statement as a child, and names the server on the spans of its callers", () =>
    Effect.gen(function*() {
      const { port } = yield* PostgresServer.PostgresServer
      const kv = yield* open(yield* clientOf(port), { batching: { maxInFlight: 1 } })
      yield* kv.put("warm", "up")
      const spans = yield* spansOf(
        Effect.forEach(["alone", "a", "b"], (key) => kv.put(key, secrets.value), { concurrency: "unbounded" })
      )
      const batch = find(spans, "BATCH put")
      assert.deepStrictEqual(childrenOf(spans, batch).map(({ name }) => name), ["SELECT effect_kv.put_entries"])
      const callers = spans.filter(({ name }) => name === "put")
      assert.deepStrictEqual(callers.map(({ attributes }) => attributes.get("server.port")), [port, port, port])
      assert.strictEqual(yield* total(KvMetrics.batchSize, { kind: "put" }), 3)
    }).pipe(isolated))

  it.effect("a failure has the SQLSTATE of the server", () =>
    Effect.gen(function*() {
      const { port } = yield* PostgresServer.PostgresServer
      const admin = yield* clientOf(port)
      yield* admin`create role stranger login`
      const kv = yield* open(yield* clientOf(port, { user: "stranger" }), { schema: "unknown" })
      const spans = yield* spansOf(Effect.flip(kv.put("a", secrets.value)))
      const put = attributesOf(find(spans, "put"))
      assert.strictEqual(put["error.type"], "PermissionDenied")
      assert.strictEqual(put["db.response.status_code"], "42501")
      assert.strictEqual(put["effect_kv.outcome"], "NotApplied")
      assert.strictEqual(yield* total(KvMetrics.operationDuration, { "error.type": "PermissionDenied" }), 1)
    }).pipe(isolated))

  it.effect("a lost response is an attempt that failed, and the search for its outcome is counted", () =>
    Effect.gen(function*() {
      const server = yield* PostgresServer.PostgresServer
      const proxy = yield* TcpProxy.make({ target: server.port })
      const pg = yield* clientOf(proxy.port, { maxConnections: 1 })
      const kv = yield* open(withoutBackground(pg), { batching: false })
      yield* kv.put("warm", "up")
      const admin = yield* clientOf(server.port)
      const spans = yield* spansOf(losingResponse(proxy, admin, "applied", kv.put("applied", secrets.value)))
      const statements = childrenOf(spans, find(spans, "put"))
      assert.strictEqual(statements[0]!.name, "SELECT effect_kv.put_entries")
      assert.strictEqual(statements[0]!.attributes.get("error.type"), "ConnectionError")
      assert.strictEqual(statements.at(-1)!.name, "SELECT effect_kv.resolve")
      assert.isFalse(statements.at(-1)!.attributes.has("error.type"))
      assert.strictEqual(yield* total(KvMetrics.lostResponses, { outcome: "applied" }), 1)
      yield* proxy.cutBeforeForwarding({ when: TcpProxy.contains("resent") })
      yield* kv.put("resent", secrets.value)
      assert.strictEqual(yield* total(KvMetrics.lostResponses, { outcome: "not applied" }), 1)
      assert.strictEqual(yield* total(KvMetrics.lostResponses), 2)
      const labels = { "server.port": `${proxy.port}`, "error.type": "Unavailable" }
      assert.isAtLeast(yield* total(KvMetrics.requestFailures, labels), 2)
    }).pipe(isolated))

  it.effect("a statement that gets no connection of the pool waits, fails, and is measured", () =>
    Effect.gen(function*() {
      const { port } = yield* PostgresServer.PostgresServer
      const pg = yield* clientOf(port, { maxConnections: 1 })
      const kv = yield* open(pg)
      yield* kv.put("a", "1")
      // While the only connection is reserved, no other statement of the client can have been measured.
      const spans = yield* spansOf(Effect.scoped(Effect.gen(function*() {
        yield* pg.reserve
        const before = yield* total(KvMetrics.poolWait)
        yield* Effect.flip(Deadline.within(kv.get("a"), "50 millis"))
        assert.strictEqual(yield* total(KvMetrics.poolWait), before + 1)
      })))
      const [statement] = childrenOf(spans, find(spans, "range"))
      assert.strictEqual(statement!.attributes.get("error.type"), "DeadlineExceeded")
      assert.strictEqual(yield* total(KvMetrics.requestFailures, { "error.type": "DeadlineExceeded" }), 1)
    }).pipe(isolated))

  it.effect("watches are counted by their state, and when they resume", () =>
    Effect.gen(function*() {
      const { port } = yield* PostgresServer.PostgresServer
      const pg = yield* clientOf(port)
      const kv = yield* open(pg, { schema: "watched" })
      const watches = (state: string) => total(KvMetrics.watches, { state })
      yield* Effect.scoped(Effect.gen(function*() {
        const watched = yield* Effect.forEach(
          ["slow", "ready"],
          (key) => backendOf(kv).watch({ range: KeyRange.key(key) })
        )
        yield* untilTrue("two live watches", Effect.map(watches("live"), (count) => count === 2))
        yield* Effect.forEach(["slow", "ready"], (key) => kv.put(key, "1"))
        yield* Effect.forEach(watched, ({ take }) => take)
        // More than a watch buffers.
        const large = "x".repeat(600_000)
        yield* Effect.forEach([1, 2, 3], () => kv.put("slow", large))
        yield* untilTrue("a parked watch", Effect.map(watches("parked"), (count) => count === 1))
        assert.isAbove(yield* total(KvMetrics.watchLag), 0)
        yield* kv.put("ready", "2")
        yield* untilTrue("a buffered event", Effect.map(total(KvMetrics.watchBuffered), (bytes) => bytes > 0))
        yield* watched[0]!.take
        yield* untilTrue("no parked watch", Effect.map(watches("parked"), (count) => count === 0))
        yield* pg`select pg_terminate_backend(pid) from pg_stat_activity
          where query like 'LISTEN%' and pid <> pg_backend_pid()`
        yield* untilTrue("a resumed watch", Effect.map(total(KvMetrics.watchReconnects), (count) => count === 1))
      }))
      assert.deepStrictEqual([yield* watches("live"), yield* watches("parked"), yield* watches("waiting")], [0, 0, 0])
    }).pipe(isolated))

  it.effect("nothing is traced or measured if that is switched off, and no gauge outlives its client", () =>
    Effect.gen(function*() {
      const { port } = yield* PostgresServer.PostgresServer
      const pg = yield* clientOf(port)
      const off = yield* open(pg, { tracing: false, metrics: false })
      assert.deepStrictEqual(yield* spansOf(off.put("a", secrets.value)), [])
      assert.deepStrictEqual(yield* Metric.snapshot, [])
      yield* Effect.scoped(Effect.flatMap(open(pg), (kv) => kv.put("a", secrets.value)))
      const left = (yield* Metric.snapshot).filter(({ type }) => type === "Gauge")
      assert.deepStrictEqual(left.map(({ id }) => id), [])
    }).pipe(isolated))
})
