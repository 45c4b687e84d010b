/**
 * A network in memory: the transport of cluster runners in tests, without sockets and without real time.
 *
 * `KvCluster.layerSocket` takes its layer as it takes that of Node's sockets. Messages are encoded, sent and decoded as
 * between processes. The test can hold all messages of one address, as when a process is frozen or a cable is cut.
 */
import { RunnerAddress } from "effect/cluster/RunnerAddress"
import { RpcClientProtocol } from "effect/cluster/Runners"
import { ShardingConfig } from "effect/cluster/ShardingConfig"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as RpcClient from "effect/rpc/RpcClient"
import * as RpcSerialization from "effect/rpc/RpcSerialization"
import type * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import * as connection from "./internal/connection.ts"

/**
 * A network in memory.
 *
 * @since 0.1.0
 */
export interface MemoryNetwork {
  /**
   * The transport of one runner: it listens at its `runnerAddress`, and connects to others. Fails with
   * `SocketServerError` if another runner listens at the address.
   */
  readonly layer: Layer.Layer<
    SocketServer.SocketServer | RpcClientProtocol,
    SocketServer.SocketServerError,
    ShardingConfig | RpcSerialization.RpcSerialization
  >
  /** Holds all messages from and to the address, until `release`. Connections stay open. */
  readonly hold: (address: RunnerAddress) => Effect.Effect<void>
  /** Delivers the messages that `hold` has held, and all later ones. */
  readonly release: (address: RunnerAddress) => Effect.Effect<void>
}

/**
 * Makes a network without runners.
 *
 * @example
 * ```ts
 * import { KvCluster } from "@effect-kv/cluster"
 * import { MemoryNetwork } from "@effect-kv/cluster/testing"
 * import { Effect, Layer, Option } from "effect"
 * import { RunnerAddress } from "effect/cluster"
 *
 * const program = Effect.gen(function*() {
 *   const network = yield* MemoryNetwork.make
 *   const runner = () => {
 *     const sharding = { runnerAddress: Option.some(RunnerAddress.make("a", 1)), shardsPerGroup: 10 }
 *     return Layer.build(Layer.fresh(KvCluster.layerSocket(network.layer, { sharding })))
 *   }
 *   yield* runner()
 *   const error = yield* Effect.flip(runner())
 *   error._tag // => "SocketServerError"
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const make: Effect.Effect<MemoryNetwork> = Effect.sync(() => {
  const listeners = new Map<string, Queue.Queue<Socket.Socket>>()
  const gates = new Map<string, Latch.Latch>()
  const gateOf = (address: RunnerAddress): Latch.Latch => {
    const known = gates.get(nameOf(address)) ?? Latch.makeUnsafe(true)
    gates.set(nameOf(address), known)
    return known
  }

  const listen = Effect.fnUntraced(function*(
    address: RunnerAddress
  ): Effect.fn.Return<SocketServer.SocketServer["Service"], SocketServer.SocketServerError, Scope.Scope> {
    const name = nameOf(address)
    if (listeners.has(name)) {
      const cause = new Error(`another runner listens at ${name}`)
      return yield* new SocketServer.SocketServerError({ reason: new SocketServer.SocketServerOpenError({ cause }) })
    }
    // What an earlier process at this address has sent stays held if it was.
    gates.set(name, Latch.makeUnsafe(true))
    const accepted = yield* Effect.acquireRelease(
      Effect.tap(Queue.unbounded<Socket.Socket>(), (queue) => Effect.sync(() => listeners.set(name, queue))),
      (queue) => Effect.andThen(Effect.sync(() => listeners.delete(name)), Queue.shutdown(queue))
    )
    return SocketServer.SocketServer.of({
      address: NetAddress.unixPathAddress(`memory:${name}`),
      run: (handler) =>
        Queue.take(accepted).pipe(
          Effect.tap(() => gateOf(address).await),
          Effect.flatMap((socket) => Effect.forkChild(Effect.exit(handler(socket)))),
          Effect.forever
        )
    })
  })

  /** A socket that connects from one address to the other, again each time its reader is acquired. */
  const connect = (from: Option.Option<RunnerAddress>, to: RunnerAddress): Socket.Socket => {
    const isConnected = Latch.makeUnsafe()
    let current: connection.Connection | undefined
    return Socket.make({
      reader: Effect.gen(function*() {
        const gates = [gateOf(to), ...Option.toArray(Option.map(from, gateOf))]
        const passed = Effect.forEach(gates, (gate) => gate.await, { discard: true })
        yield* passed
        const listener = listeners.get(nameOf(to))
        if (listener === undefined) {
          const cause = new Error(`no runner listens at ${nameOf(to)}`)
          return yield* new Socket.SocketError({ reason: new Socket.SocketOpenError({ kind: "Unknown", cause }) })
        }
        const made = yield* connection.make(passed)
        current = made
        isConnected.openUnsafe()
        yield* Effect.addFinalizer(() => {
          isConnected.closeUnsafe()
          return made.close
        })
        yield* Queue.offer(listener, made.server)
        return made.clientReader
      }),
      writer: Effect.succeed(
        connection.writer((chunk) => Effect.andThen(isConnected.await, Effect.suspend(() => current!.send(chunk))))
      )
    })
  }

  return {
    layer: Layer.effectContext(Effect.gen(function*() {
      const { runnerAddress, runnerListenAddress } = yield* ShardingConfig
      const serialization = yield* RpcSerialization.RpcSerialization
      const protocol = RpcClientProtocol.of({
        codecFor: serialization.codecFor,
        make: (to) =>
          RpcClient.makeProtocolSocket().pipe(
            Effect.provideService(Socket.Socket, connect(runnerAddress, to)),
            Effect.provideService(RpcSerialization.RpcSerialization, serialization)
          )
      })
      const address = Option.orElse(runnerListenAddress, () => runnerAddress)
      const server = yield* listen(Option.getOrElse(address, () => RunnerAddress.make({ host: "client", port: 0 })))
      return Context.make(RpcClientProtocol, protocol).pipe(Context.add(SocketServer.SocketServer, server))
    })),
    hold: (address) => Effect.asVoid(gateOf(address).close),
    release: (address) => Effect.asVoid(gateOf(address).open)
  }
})

const nameOf = ({ host, port }: RunnerAddress): string => `${host}:${port}`
