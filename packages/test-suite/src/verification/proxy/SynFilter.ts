/**
 * A listener that drops SYNs while it is closed, and otherwise forwards connections to a server: a network that is down,
 * as a client's TCP sees it.
 *
 * It needs no firewall. The listener is a process of its own with a short queue for connections that it has not accepted.
 * When the process is stopped and its queue is full, the kernel drops further SYNs, which the client's kernel sends again
 * after 1, 3, 7, 15, ... seconds.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"
import * as Guardian from "../etcd/Guardian.ts"
import { freePort, releasePort } from "../internal/ports.ts"
import { realTime } from "../internal/realTime.ts"

/**
 * The listener could not be started, or the kernel does not drop SYNs.
 *
 * @since 0.1.0
 */
export class SynFilterError extends Data.TaggedError("SynFilterError")<{ readonly message: string }> {}

/**
 * A running listener.
 *
 * @since 0.1.0
 */
export interface SynFilter {
  readonly endpoint: string
  /** Drops SYNs from now on. Connections that were forwarded until now are stalled. */
  readonly close: Effect.Effect<void, SynFilterError>
  /** Accepts and forwards again. */
  readonly open: Effect.Effect<void>
}

const program = `
const net = require("node:net")
const [port, target] = process.argv.slice(1).map(Number)
const ignore = () => {}
net.createServer({ noDelay: true }, (client) => {
  const server = net.connect({ port: target, host: "127.0.0.1", noDelay: true }).on("error", ignore)
  client.on("error", ignore).on("close", () => server.destroy()).pipe(server)
  server.on("close", () => client.destroy()).pipe(client)
}).listen({ port, host: "127.0.0.1", backlog: 1 }, () => console.log("ready"))
`

/**
 * Starts a listener in front of a loopback port, until the scope closes. Linux only.
 *
 * @example
 * ```ts
 * import { SynFilter } from "@effect-kv/test-suite/verification"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const network = yield* SynFilter.make({ port: 2379 })
 *   yield* network.close
 *   yield* Effect.sleep("1 second")
 *   yield* network.open
 *   network.endpoint.startsWith("http://127.0.0.1:") // => true
 * })
 * ```
 *
 * @since 0.1.0
 */
export const make = (options: {
  readonly port: number
}): Effect.Effect<SynFilter, SynFilterError, Scope.Scope> => realTime(start(options.port))

const start = Effect.fnUntraced(function*(target: number) {
  const failed = (message: string) => new SynFilterError({ message })
  const guardian = yield* Guardian.make("effect-kv-syn").pipe(Effect.mapError(({ message }) => failed(message)))
  const port = yield* Effect.acquireRelease(freePort, releasePort)
  const running = yield* guardian.spawn({
    command: process.execPath,
    args: ["-e", program, String(port), String(target)],
    env: {},
    stdio: ["ignore", "pipe", "ignore"]
  }).pipe(Effect.mapError(({ message }) => failed(message)))
  yield* Effect.raceFirst(
    Effect.callback<void>((resume) => void running.stdout!.once("data", () => resume(Effect.void))),
    Effect.flatMap(running.end, () => Effect.fail(failed("the listener exited while it started")))
  ).pipe(Effect.timeoutOrElse({
    duration: "20 seconds",
    orElse: () => Effect.fail(failed("the listener did not start within 20 seconds"))
  }))

  const filling = new Set<Net.Socket>()
  yield* Effect.addFinalizer(() => Effect.sync(() => filling.forEach((socket) => socket.destroy())))
  /** Opens connections until one is not established. */
  const fill = Effect.gen(function*() {
    for (let i = 0; i < 16; i++) {
      const socket = Net.connect({ port, host: "127.0.0.1" }).on("error", () => {})
      filling.add(socket)
      const isEstablished = yield* Effect.callback<boolean>((resume) => {
        socket.once("connect", () => resume(Effect.succeed(true)))
      }).pipe(Effect.timeoutOrElse({ duration: "300 millis", orElse: () => Effect.succeed(false) }))
      if (!isEstablished) return
    }
    return yield* failed("the kernel accepts connections for a process that is stopped and has a full queue")
  })
  return {
    endpoint: `http://127.0.0.1:${port}`,
    close: realTime(Effect.andThen(running.signal("SIGSTOP"), fill)),
    open: Effect.suspend(() => {
      filling.forEach((socket) => socket.destroy())
      filling.clear()
      return running.signal("SIGCONT")
    })
  } satisfies SynFilter
})
