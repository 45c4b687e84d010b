/**
 * An `etcd grpc-proxy` process between clients and a cluster, for tests.
 *
 * It stands in for the cluster at one address, shares watches among clients, and chooses the ids of watches itself.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"
import { freePort, releasePort } from "../internal/ports.ts"
import { realTime } from "../internal/realTime.ts"
import * as EtcdBinaries from "./EtcdBinaries.ts"
import { type EtcdClusterError, failure, fromGuardian } from "./EtcdClusterError.ts"
import * as Guardian from "./Guardian.ts"

/**
 * A running proxy.
 *
 * @since 0.1.0
 */
export interface GrpcProxy {
  readonly endpoint: string
  /** Whether the process still runs. */
  readonly isRunning: Effect.Effect<boolean>
  /** Sends SIGKILL and waits for the process to exit. */
  readonly kill: Effect.Effect<void>
}

/**
 * Starts a proxy of the version under test, to endpoints without TLS, until the scope closes.
 *
 * @example
 * ```ts
 * import { GrpcProxy } from "@effect-kv/test-suite/verification"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const proxy = yield* GrpcProxy.make({ endpoints: ["http://127.0.0.1:2379"] })
 *   proxy.endpoint.startsWith("http://127.0.0.1:") // => true
 * })
 * ```
 *
 * @since 0.1.0
 */
export const make = (options: {
  readonly endpoints: ReadonlyArray<string>
}): Effect.Effect<GrpcProxy, EtcdClusterError | EtcdBinaries.EtcdBinariesMissing, Scope.Scope> =>
  realTime(start(options.endpoints))

const start = Effect.fnUntraced(function*(endpoints: ReadonlyArray<string>) {
  const { etcd } = yield* EtcdBinaries.current
  const guardian = yield* Guardian.make("effect-kv-grpc-proxy").pipe(Effect.mapError(fromGuardian("grpc-proxy")))
  const port = yield* Effect.acquireRelease(freePort, releasePort)
  const running = yield* guardian.spawn({
    command: etcd,
    args: [
      "grpc-proxy",
      "start",
      `--endpoints=${endpoints.join(",")}`,
      `--listen-addr=127.0.0.1:${port}`,
      `--data-dir=${guardian.directory}`
    ],
    // etcd 3.4 requires this on architectures other than x64.
    env: process.arch === "x64" ? {} : { ETCD_UNSUPPORTED_ARCH: process.arch },
    stdio: ["ignore", "ignore", "ignore"]
  }).pipe(Effect.mapError(fromGuardian("grpc-proxy")))
  yield* Effect.repeat(accepts(port), { until: (accepted) => accepted, schedule: Schedule.spaced("20 millis") }).pipe(
    Effect.raceFirst(
      Effect.flatMap(running.end, () => Effect.fail(failure("grpc-proxy", "the proxy exited while it started")))
    ),
    Effect.timeoutOrElse({
      duration: "20 seconds",
      orElse: () => Effect.fail(failure("grpc-proxy", "the proxy did not listen within 20 seconds"))
    })
  )
  return {
    endpoint: `http://127.0.0.1:${port}`,
    isRunning: Effect.sync(() => running.ended() === undefined),
    kill: Effect.andThen(running.signal("SIGKILL"), Effect.asVoid(running.end))
  } satisfies GrpcProxy
})

const accepts = (port: number): Effect.Effect<boolean> =>
  Effect.callback((resume) => {
    const socket = Net.connect(port, "127.0.0.1")
    const done = (accepted: boolean) => {
      socket.destroy()
      resume(Effect.succeed(accepted))
    }
    socket.once("connect", () => done(true))
    socket.once("error", () => done(false))
  })
