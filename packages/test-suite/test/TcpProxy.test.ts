import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Net from "node:net"
import * as EtcdCluster from "../src/verification/etcd/EtcdCluster.ts"
import * as TcpProxy from "../src/verification/proxy/TcpProxy.ts"

/** One end of a connection, with all bytes it has received. */
interface Peer {
  readonly socket: Net.Socket
  readonly received: () => string
  readonly bytes: () => number
  /** The other side has ended, or the connection broke. */
  readonly isOver: () => boolean
}

const peer = (socket: Net.Socket): Peer => {
  const chunks: Array<Buffer> = []
  let bytes = 0
  let over = false
  socket.on("data", (chunk: Buffer) => {
    bytes += chunk.length
    // Long transfers are only counted.
    if (bytes < 100_000) chunks.push(chunk)
  })
  socket.on("end", () => (over = true))
  socket.on("close", () => (over = true))
  socket.on("error", () => {})
  return { socket, received: () => Buffer.concat(chunks).toString(), bytes: () => bytes, isOver: () => over }
}

const until = (what: string, condition: () => boolean) =>
  Effect.repeat(Effect.sync(condition), { until: (value) => value, schedule: Schedule.spaced("2 millis") }).pipe(
    Effect.timeoutOrElse({ duration: "20 seconds", orElse: () => Effect.die(new Error(`not within 20 s: ${what}`)) })
  )

/** A server that sends nothing by itself: the test controls both ends. */
const startServer = Effect.acquireRelease(
  Effect.callback<{ readonly port: number; readonly peers: Array<Peer>; readonly server: Net.Server }>((resume) => {
    const peers: Array<Peer> = []
    const server = Net.createServer((socket) => void peers.push(peer(socket)))
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as Net.AddressInfo
      resume(Effect.succeed({ port, peers, server }))
    })
  }),
  ({ peers, server }) =>
    Effect.callback<void>((resume) => {
      for (const { socket } of peers) socket.destroy()
      server.close(() => resume(Effect.void))
    })
)

const connect = (port: number) =>
  Effect.acquireRelease(
    Effect.callback<Peer, NodeJS.ErrnoException>((resume) => {
      const socket = Net.connect({ port, host: "127.0.0.1", noDelay: true })
      socket.once("connect", () => resume(Effect.succeed(peer(socket))))
      socket.once("error", (error) => resume(Effect.fail(error)))
    }),
    ({ socket }) => Effect.sync(() => socket.destroy())
  )

/** A proxy with a client and a server that have exchanged `ab`. */
const setup = Effect.gen(function*() {
  const server = yield* startServer
  const proxy = yield* TcpProxy.make({ target: server.port })
  const link = Effect.gen(function*() {
    const before = server.peers.length
    const client = yield* connect(proxy.port)
    yield* until("the server is reached", () => server.peers.length > before)
    return { client, remote: server.peers[before]! }
  })
  const { client, remote } = yield* link
  client.socket.write("a")
  yield* until("the request arrives", () => remote.received() === "a")
  remote.socket.write("b")
  yield* until("the response arrives", () => client.received() === "b")
  return { server, proxy, link, client, remote }
})

/** Long enough for bytes on the loopback to arrive if they were forwarded: time, and turns of the event loop. */
const aMoment = Effect.replicateEffect(Effect.sleep("5 millis"), 10, { discard: true })

describe("TcpProxy", () => {
  it.live("a proxy forwards bytes in both directions and counts them", () =>
    Effect.gen(function*() {
      const { client, proxy, remote } = yield* setup
      client.socket.write("cde")
      yield* until("more requests arrive", () => remote.received() === "acde")
      assert.deepStrictEqual(yield* proxy.stats, {
        opened: 1,
        live: 1,
        bytesToServer: 4,
        bytesToClient: 1,
        struck: 0
      })
      client.socket.end()
      yield* until("the end arrives", remote.isOver)
      const gone = Effect.map(proxy.stats, ({ live }) => live === 0)
      yield* Effect.repeat(gone, { until: (value) => value, schedule: Schedule.spaced("2 millis") }).pipe(
        Effect.timeout("5 seconds")
      )
    }))

  it.live("cut destroys all connections, and new ones are accepted", () =>
    Effect.gen(function*() {
      const { client, link, proxy, remote } = yield* setup
      yield* proxy.cut
      yield* until("both ends notice", () => client.isOver() && remote.isOver())
      assert.strictEqual((yield* proxy.stats).live, 0)
      const again = yield* link
      again.client.socket.write("x")
      yield* until("the new connection works", () => again.remote.received() === "x")
    }))

  it.live("down refuses connections until up, on the same port", () =>
    Effect.gen(function*() {
      const { client, link, proxy } = yield* setup
      yield* proxy.down
      yield* until("the client notices", client.isOver)
      const refused = yield* Effect.flip(connect(proxy.port))
      assert.strictEqual(refused.code, "ECONNREFUSED")
      yield* proxy.up
      yield* link
    }))

  it.live("a blackhole holds bytes back and forwards them when healed", () =>
    Effect.gen(function*() {
      const { client, link, proxy, remote } = yield* setup
      yield* proxy.blackhole()
      const second = yield* link
      client.socket.write("late")
      remote.socket.write("too")
      second.client.socket.write("s")
      yield* aMoment
      assert.deepStrictEqual([remote.received(), client.received(), second.remote.received()], ["a", "b", ""])
      assert.isFalse(client.isOver())
      yield* proxy.heal
      yield* until("all arrives", () =>
        remote.received() === "alate" && client.received() === "btoo" && second.remote.received() === "s")
    }))

  it.live("a blackhole in one direction does not affect the other", () =>
    Effect.gen(function*() {
      const { client, proxy, remote } = yield* setup
      yield* proxy.blackhole({ direction: "toServer" })
      client.socket.write("held")
      remote.socket.write("passes")
      yield* until("the other direction works", () => client.received() === "bpasses")
      assert.strictEqual(remote.received(), "a")
    }))

  it.live("dropped responses are lost, and their connection is cut when healed", () =>
    Effect.gen(function*() {
      const { client, link, proxy, remote } = yield* setup
      const untouched = yield* link
      yield* proxy.dropResponses
      client.socket.write("request")
      yield* until("the request arrives", () => remote.received() === "arequest")
      remote.socket.write("response")
      yield* aMoment
      assert.strictEqual(client.received(), "b")
      assert.isFalse(client.isOver())
      yield* proxy.heal
      yield* until("the connection is cut", client.isOver)
      assert.strictEqual(client.received(), "b")
      untouched.remote.socket.write("fine")
      yield* until("a connection that lost nothing continues", () => untouched.client.received() === "fine")
    }))

  it.live("cutAfterForwarding cuts one client once its request has reached the server", () =>
    Effect.gen(function*() {
      const { client, link, proxy, remote } = yield* setup
      const armed = yield* proxy.cutAfterForwarding({ when: TcpProxy.contains("now") })
      client.socket.write("not yet")
      yield* until("other chunks pass", () => remote.received() === "anot yet")
      client.socket.write("now!")
      yield* armed.struck
      yield* until("the client is cut", client.isOver)
      yield* until("the request arrives all the same", () => remote.received() === "anot yetnow!")
      assert.isFalse(remote.isOver())
      remote.socket.write("response")
      yield* until("the server's side is closed later", remote.isOver)
      assert.strictEqual(client.received(), "b")
      const again = yield* link
      again.client.socket.write("now!")
      yield* until("it does not strike again", () => again.remote.received() === "now!")
    }))

  it.live("cutAfterForwarding can strike after a number of bytes", () =>
    Effect.gen(function*() {
      const { client, proxy, remote } = yield* setup
      const armed = yield* proxy.cutAfterForwarding({ bytes: 5, linger: 0 })
      client.socket.write("123")
      yield* until("the first pass", () => remote.received() === "a123")
      client.socket.write("45")
      yield* armed.struck
      yield* until("both are cut", () => client.isOver() && remote.isOver())
      assert.strictEqual(remote.received(), "a12345")
    }))

  it.live("cutBeforeForwarding cuts the connection before the server gets the request", () =>
    Effect.gen(function*() {
      const { client, proxy, remote } = yield* setup
      const armed = yield* proxy.cutBeforeForwarding({ when: TcpProxy.contains("secret") })
      client.socket.write("a secret")
      yield* armed.struck
      yield* until("both are cut", () => client.isOver() && remote.isOver())
      assert.strictEqual(remote.received(), "a")
    }))

  it.live("cutMidFrame forwards a part of a response and cuts the connection", () =>
    Effect.gen(function*() {
      const { client, link, proxy, remote } = yield* setup
      yield* proxy.cutMidFrame()
      remote.socket.write("response")
      yield* until("the client is cut", client.isOver)
      assert.strictEqual(client.received(), "brespons")
      const again = yield* link
      yield* proxy.cutMidFrame({ bytes: 2 })
      again.remote.socket.write("response")
      yield* until("the client is cut again", again.client.isOver)
      assert.strictEqual(again.client.received(), "re")
    }))

  it.live("delay forwards all bytes later and in order", () =>
    Effect.gen(function*() {
      const { client, proxy, remote } = yield* setup
      yield* proxy.delay("100 millis", "toServer")
      const start = performance.now()
      for (const letter of "later") client.socket.write(letter)
      yield* until("it arrives", () => remote.received() === "alater")
      assert.isAtLeast(performance.now() - start, 99)
      yield* proxy.delay("1 hour")
      remote.socket.write("tomorrow")
      yield* aMoment
      assert.strictEqual(client.received(), "b")
      yield* proxy.heal
      yield* until("healing does not wait", () => client.received() === "btomorrow")
    }))

  it.live("throttle limits the bytes per second", () =>
    Effect.gen(function*() {
      const { client, proxy, remote } = yield* setup
      yield* proxy.throttle(100_000)
      const transfer = Effect.gen(function*() {
        const start = performance.now()
        const before = client.bytes()
        remote.socket.write(Buffer.alloc(30_000))
        yield* until("it arrives", () => client.bytes() === before + 30_000)
        return performance.now() - start
      })
      const times = yield* Effect.replicateEffect(transfer, 3)
      for (const took of times) assert.isAtLeast(took, 290)
      // A busy machine may delay one of them.
      assert.isBelow(Math.min(...times), 2000)
    }))

  it.live("halfOpen closes the server side, and the client is not notified", () =>
    Effect.gen(function*() {
      const { client, link, proxy, remote } = yield* setup
      yield* proxy.halfOpen
      yield* until("the server notices", remote.isOver)
      client.socket.write("anybody?")
      yield* aMoment
      assert.isFalse(client.isOver())
      assert.strictEqual((yield* proxy.stats).live, 1)
      const other = yield* link
      other.client.socket.write("x")
      yield* until("new connections work", () => other.remote.received() === "x")
      yield* proxy.heal
      yield* until("healing cuts it", client.isOver)
    }))

  it.live("swallow silences connections accepted from then on, for good, and leaves live ones alone", () =>
    Effect.gen(function*() {
      const { client, link, proxy, remote } = yield* setup
      yield* proxy.swallow(true)
      const swallowed = yield* connect(proxy.port)
      swallowed.socket.write("anybody?")
      client.socket.write("x")
      yield* until("the live connection continues", () => remote.received() === "ax")
      yield* proxy.swallow(false)
      const other = yield* link
      other.client.socket.write("y")
      yield* until("new connections work", () => other.remote.received() === "y")
      yield* aMoment
      assert.isFalse(swallowed.isOver())
      assert.strictEqual(swallowed.received(), "")
    }))

  it.live("stats show whether a fault took effect", () =>
    Effect.gen(function*() {
      const { client, proxy, remote, server } = yield* setup
      const struck = Effect.map(proxy.stats, ({ struck }) => struck)
      const idle = yield* TcpProxy.make({ target: 1 })
      yield* Effect.all([idle.cut, idle.halfOpen, idle.dropResponses, idle.blackhole(), idle.cutBeforeForwarding()])
      assert.strictEqual((yield* idle.stats).struck, 0, "this proxy is unused")
      yield* proxy.dropResponses
      client.socket.write("x")
      yield* until("the request arrives", () => remote.received() === "ax")
      assert.strictEqual(yield* struck, 0, "no response was lost yet")
      remote.socket.write("y")
      yield* Effect.repeat(struck, { until: (count) => count === 1, schedule: Schedule.spaced("2 millis") })
      yield* proxy.blackhole()
      assert.strictEqual(yield* struck, 2)
      yield* Effect.scoped(connect(proxy.port))
      yield* Effect.repeat(struck, { until: (count) => count === 3, schedule: Schedule.spaced("2 millis") })
      yield* proxy.cut
      yield* proxy.heal
      const before = yield* struck
      const again = yield* connect(proxy.port)
      yield* proxy.delay("1 milli", "toServer")
      again.socket.write("z")
      yield* until("it arrives", () => server.peers.some((peer) => peer.received() === "z"))
      assert.strictEqual(yield* struck, before + 1)
    }))

  it.live("retarget connects new connections to another server", () =>
    Effect.gen(function*() {
      const { client, proxy, remote } = yield* setup
      const other = yield* startServer
      yield* proxy.retarget(`http://127.0.0.1:${other.port}`)
      const moved = yield* connect(proxy.port)
      moved.socket.write("here")
      yield* until("the other server receives it", () => other.peers[0]?.received() === "here")
      client.socket.write("there")
      yield* until("the old connection stays", () => remote.received() === "athere")
    }))

  it.live("a connection is closed if its server is not running", () =>
    Effect.gen(function*() {
      const { proxy, server } = yield* setup
      yield* Effect.callback<void>((resume) => {
        for (const { socket } of server.peers) socket.destroy()
        server.server.close(() => resume(Effect.void))
      })
      const client = yield* connect(proxy.port)
      yield* until("the client notices", client.isOver)
    }))

  it.live("a sender has to wait for a receiver that does not read", () =>
    Effect.gen(function*() {
      const { client, proxy, remote } = yield* setup
      remote.socket.pause()
      const total = 64 * 1024 * 1024
      const block = Buffer.alloc(1024 * 1024)
      for (let sent = 0; sent < total; sent += block.length) client.socket.write(block)
      const passed = Effect.map(proxy.stats, ({ bytesToServer }) => bytesToServer)
      const standsStill = Effect.gen(function*() {
        const before = yield* passed
        yield* aMoment
        return before > 1 && (yield* passed) === before
      })
      yield* Effect.repeat(standsStill, { until: (stands) => stands })
      // No more than fits into the kernel buffers of the two connections.
      const held = yield* passed
      assert.isBelow(held, total / 2)
      assert.isAbove(client.socket.writableLength, total / 2)
      yield* aMoment
      assert.strictEqual(yield* passed, held)
      remote.socket.resume()
      yield* until("all arrives", () => remote.bytes() === total + 1)
    }))

  it.live("a closed proxy leaves no connection and no port behind", () =>
    Effect.gen(function*() {
      const server = yield* startServer
      const [port, client] = yield* Effect.scoped(Effect.gen(function*() {
        const proxy = yield* TcpProxy.make({ target: server.port })
        const socket = Net.connect(proxy.port, "127.0.0.1")
        const client = peer(socket)
        yield* until("connected", () => server.peers.length === 1)
        yield* proxy.blackhole()
        socket.write("x")
        return [proxy.port, client] as const
      }))
      yield* until("both ends notice", () => client.isOver() && server.peers[0]!.isOver())
      assert.strictEqual((yield* Effect.flip(Effect.scoped(connect(port)))).code, "ECONNREFUSED")
    }))

  it.live("a write to etcd whose response is lost was applied", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.make()
      const proxy = yield* TcpProxy.make({ target: cluster.endpoints[0]! })
      yield* cluster.etcdctl(["put", "k", "before"], { endpoint: proxy.endpoint })
      const armed = yield* proxy.cutAfterForwarding({ when: TcpProxy.contains("cut-response") })
      yield* Effect.exit(
        cluster.etcdctl(["put", "k", "cut-response", "--command-timeout=500ms"], { endpoint: proxy.endpoint })
      )
      yield* armed.struck
      const history = yield* cluster.watchFrom()
      const values = (yield* history.upTo(yield* cluster.revision)).map((event) => event.value)
      assert.deepStrictEqual(values, ["before", "cut-response"])
    }))
})
