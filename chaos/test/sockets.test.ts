/**
 * The leak check of connections: what it reports, and how long it waits for connections that are closing.
 */
import { TcpProxy } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Net from "node:net"
import * as Resources from "../src/Resources.ts"
import * as Sockets from "../src/Sockets.ts"

/** A server that accepts connections and sends nothing. */
const server = Effect.acquireRelease(
  Effect.callback<Net.Server>((resume) => {
    const server = Net.createServer((socket) => void socket.on("error", () => {}).resume())
    server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
  }),
  (server) => Effect.sync(() => void server.close())
)

const portOf = (server: Net.Server): number => (server.address() as Net.AddressInfo).port

const openTo = (port: number) =>
  Effect.acquireRelease(
    Effect.callback<Net.Socket>((resume) => {
      const socket = Net.connect({ port, host: "127.0.0.1" }, () => resume(Effect.succeed(socket)))
    }),
    (socket) => Effect.sync(() => void socket.destroy())
  )

const eventually = <A>(look: () => A, isMeant: (a: A) => boolean) =>
  Effect.repeat(Effect.sync(look), { until: isMeant, schedule: Schedule.spaced("5 millis") }).pipe(
    Effect.andThen(Effect.sync(look)),
    Effect.timeout("10 seconds")
  )

describe("connections that are left", () => {
  it.live("are reported with their ports, the code that opened them, and the state of both ends", () =>
    Effect.gen(function*() {
      const sockets = yield* Sockets.track
      const proxy = yield* TcpProxy.make({ target: portOf(yield* server) })
      const left = () => sockets.left(new Set([proxy.port]))
      assert.deepStrictEqual(left(), [])

      const socket = yield* openTo(proxy.port)
      const [connection] = yield* eventually(left, ([one]) => one?.proxyEnd === "open")
      assert.deepInclude(connection, {
        clientPort: socket.localPort!,
        proxyPort: proxy.port,
        clientEnd: "open",
        proxyEnd: "open"
      })
      assert.match(connection!.openedBy!, /sockets\.test\.ts/)
      assert.isFalse(Sockets.isClosing(connection!))
      assert.match(
        Sockets.format(connection!, "c1 to m2", connection!.opened + 2_500_000_000n),
        /^c1 to m2 from port \d+, opened 2\.5 s ago by .*sockets\.test\.ts.*, client end open, proxy end open$/
      )

      // The proxy reads nothing, so it does not see that the client has closed.
      yield* proxy.blackhole()
      socket.destroy()
      const [closing] = yield* eventually(left, ([one]) => one?.clientEnd === "closed")
      assert.deepInclude(closing, { clientPort: connection!.clientPort, proxyEnd: "open" })
      assert.isTrue(Sockets.isClosing(closing!))

      yield* proxy.heal
      yield* eventually(left, (all) => all.length === 0)
    }))

  const resources: Resources.Resources = {
    leases: 0,
    watches: 0,
    keys: [],
    onServers: [],
    sockets: 1,
    connections: ["c1 to m2 from port 4711"],
    areClosing: true,
    fibers: 0,
    timers: 0
  }
  const limits = { watches: 0, timers: 0 }
  const mayCountAgain = (changed: Partial<Resources.Resources>, counted: number) =>
    Resources.mayCountAgain({ ...resources, ...changed }, limits, Resources.parts, counted)

  it("get more time while they are closing and nothing else is left, but not indefinitely", () => {
    assert.isTrue(mayCountAgain({ areClosing: false }, 60))
    assert.isFalse(mayCountAgain({ areClosing: false }, 61), "an open connection is a leak")
    assert.isFalse(mayCountAgain({ fibers: 1 }, 61), "a fiber is left as well")
    assert.isTrue(mayCountAgain({}, 120))
    assert.isFalse(mayCountAgain({}, 121))
  })

  it("are named by the violation", () => {
    assert.deepStrictEqual(Resources.excess(resources, limits), ["1 sockets (c1 to m2 from port 4711)"])
  })
})
