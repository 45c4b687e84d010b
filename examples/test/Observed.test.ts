/**
 * The example is read back as Prometheus and a collector read it: metrics, traces and probes.
 */
import { MemoryLayer } from "@effect-kv/memory"
import { assert, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import { createServer, type Server as HttpServer } from "node:http"
import type { AddressInfo } from "node:net"
import { read, Server, Telemetry, work } from "../src/Observed.ts"
import * as ContendedLock from "../src/trace/ContendedLock.ts"
import * as TraceSvg from "../src/trace/TraceSvg.ts"

/** A server that keeps the bodies that it receives, by path. */
const collector = Effect.acquireRelease(
  Effect.callback<{ readonly server: HttpServer; readonly url: string; readonly received: Map<string, string> }>(
    (resume) => {
      const received = new Map<string, string>()
      const server = createServer((request, response) => {
        let body = ""
        request.on("data", (chunk: Buffer) => body += chunk.toString())
        request.on("end", () => {
          const path = request.url ?? ""
          received.set(path, (received.get(path) ?? "") + body)
          response.writeHead(200, { "content-type": "application/json" }).end("{}")
        })
      })
      server.listen(0, "127.0.0.1", () => {
        const { port } = server.address() as AddressInfo
        resume(Effect.succeed({ server, url: `http://127.0.0.1:${port}`, received }))
      })
    }
  ),
  ({ server }) =>
    Effect.sync(() => {
      server.closeAllConnections()
      server.close()
    })
)

it.live("Prometheus reads the metrics, a collector receives traces and metrics, and the probes respond", () =>
  Effect.gen(function*() {
    const { received, url } = yield* collector
    const [metrics, ready, live] = yield* Effect.gen(function*() {
      yield* work
      return [yield* read("/metrics"), yield* read("/ready"), yield* read("/live")] as const
    }).pipe(
      Effect.provide(Server),
      Effect.provide(MemoryLayer.layer),
      Effect.provide(Telemetry),
      Effect.provideService(
        ConfigProvider.ConfigProvider,
        ConfigProvider.fromEnv({
          env: { OTEL_EXPORTER_OTLP_ENDPOINT: url, OTEL_TRACES_EXPORTER: "otlp", OTEL_METRICS_EXPORTER: "otlp" }
        })
      ),
      Effect.provideService(Metric.MetricRegistry, new Map())
    )
    assert.match(metrics.text, /^# TYPE effect_kv_lock_wait_seconds histogram$/m)
    assert.match(metrics.text, /^effect_kv_lock_wait_seconds_count\{kind="lock",outcome="acquired"\} 3$/m)
    assert.match(metrics.text, /^effect_kv_locks_held\{kind="lock"\} 0$/m)
    assert.match(metrics.text, /^effect_kv_session_margin_ratio /m)
    assert.match(metrics.text, /^effect_kv_memory_keys 1$/m)
    assert.deepStrictEqual([ready, live].map(({ status }) => status), [200, 200])
    const traces = received.get("/v1/traces") ?? ""
    for (const name of ["report of ada", "lock.wait", "lock.hold"]) assert.include(traces, `"name":"${name}"`)
    assert.include(received.get("/v1/metrics") ?? "", `"name":"effect_kv_lock_hold_seconds"`)
    for (const body of received.values()) assert.notInclude(body, `"stringValue":"cleo"`)
  }).pipe(Effect.scoped))

it.live("the picture of a contended lock shows the wait and the hold of both requests", () =>
  Effect.gen(function*() {
    const { spans, tracer } = ContendedLock.recorder()
    yield* ContendedLock.program.pipe(Effect.provide(MemoryLayer.layer), Effect.withTracer(tracer))
    const picture = TraceSvg.draw("a trace", ContendedLock.requestsOf(spans))
    const count = (text: string): number => picture.split(text).length - 1
    assert.deepStrictEqual(["first request<", "second request<", ">lock.wait<", ">lock.hold<"].map(count), [1, 1, 2, 2])
  }))
