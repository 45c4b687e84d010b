/**
 * A service that can be operated: Prometheus reads its metrics, an OpenTelemetry collector receives its traces, and
 * probes check whether it is alive and ready.
 *
 *     node examples/src/Observed.ts
 *     export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 OTEL_TRACES_EXPORTER=otlp OTEL_METRICS_EXPORTER=otlp
 *     KV_URL=http://127.0.0.1:2379 node examples/src/Observed.ts
 */
import { DistLock, Kv, KvHealth } from "@effect-kv/core"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Otlp from "effect/observability/Otlp"
import * as OtlpSerialization from "effect/observability/OtlpSerialization"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import { createServer } from "node:http"
import * as StoreByUrl from "./StoreByUrl.ts"

/**
 * Traces, metrics and logs to the collector that OpenTelemetry's environment variables name; none without them. Around
 * all other layers, so that it also exports what happens while they close.
 */
export const Telemetry = Otlp.layerFromConfig({ resource: { serviceName: "observed" } }).pipe(
  Layer.provide(OtlpSerialization.layerJson),
  Layer.provide(FetchHttpClient.layer)
)

/** `/metrics` for Prometheus, `/ready` and `/live` for probes. */
export const Routes = Layer.mergeAll(
  PrometheusMetrics.layerHttp(),
  // Ready only with the store. Liveness must not depend on it: a restart does not repair the store.
  HttpRouter.add(
    "GET",
    "/ready",
    Effect.gen(function*() {
      yield* KvHealth.check({ deadline: "1 second" })
      return HttpServerResponse.text("ready")
    }).pipe(
      Effect.catchTag("Unhealthy", ({ message }) => Effect.succeed(HttpServerResponse.text(message, { status: 503 })))
    )
  ),
  HttpRouter.add("GET", "/live", HttpServerResponse.text("alive"))
)

/** The server, on a port of the system's choice. */
export const Server = HttpRouter.serve(Routes, { disableLogger: true, disableListenLog: true }).pipe(
  Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" }))
)

/** Three instances that want the same lock at once. */
export const work = Effect.forEach(
  ["ada", "bert", "cleo"],
  (name) =>
    Effect.andThen(Effect.sleep("50 millis"), Kv.put("last", name)).pipe(
      DistLock.withDistLock("report", { description: name }),
      Effect.withSpan(`report of ${name}`)
    ),
  { concurrency: "unbounded", discard: true }
)

/** What the server responds to a path. */
export const read = (path: string) =>
  Effect.gen(function*() {
    const { address } = yield* HttpServer.HttpServer
    const response = yield* HttpClient.get(`${HttpServer.formatAddress(address)}${path}`)
    return { status: response.status, text: yield* response.text }
  }).pipe(Effect.provide(FetchHttpClient.layer))

/** Works, and reads its own metrics as Prometheus would. */
export const program = Effect.gen(function*() {
  yield* work
  yield* Console.log((yield* read("/ready")).text)
  const { text } = yield* read("/metrics")
  for (const line of text.split("\n")) {
    if (/^effect_kv_lock_(wait|hold)_seconds_count/.test(line)) yield* Console.log(line)
  }
})

if (process.argv[1] === import.meta.filename) {
  NodeRuntime.runMain(
    program.pipe(
      Effect.provide(Server),
      Effect.provide(Kv.layerPrefixed("examples/observed/")),
      Effect.provide(StoreByUrl.layer),
      Effect.provide(Telemetry)
    )
  )
}
