/**
 * Duplex streams on a scripted HTTP/2 peer: messages both ways, backpressure, and their ends.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { Status } from "../../src/grpc/status.ts"
import type * as Transport from "../../src/grpc/Transport.ts"
import { bytes, call, pair, path, responding } from "./support/client.ts"
import * as Peer from "./support/Peer.ts"

/** Collects what a stream receives. */
class Received implements Transport.StreamListener {
  readonly messages: Array<string> = []
  readonly ends: Array<Transport.Failure | undefined> = []
  readonly #waiting = new Set<() => void>()
  onEach: ((text: string) => void) | undefined

  readonly onMessage = (message: Buffer): void => {
    this.messages.push(message.toString())
    this.onEach?.(message.toString())
    for (const wake of Array.from(this.#waiting)) wake()
  }

  readonly onEnd = (failure: Transport.Failure | undefined): void => {
    this.ends.push(failure)
    for (const wake of Array.from(this.#waiting)) wake()
  }

  until(holds: () => boolean): Effect.Effect<void> {
    return Effect.callback((resume) => {
      const look = (): void => {
        if (!holds()) return
        this.#waiting.delete(look)
        resume(Effect.void)
      }
      this.#waiting.add(look)
      look()
    })
  }

  get ended(): Effect.Effect<Transport.Failure | undefined> {
    return Effect.map(this.until(() => this.ends.length > 0), () => this.ends[0])
  }
}

/** A peer that opens the response of the first stream when the request's headers arrive. */
const opening: Peer.Script = {
  onFrame: (connection, { stream, type }) => {
    if (type === Peer.Type.HEADERS && stream === 1) connection.headers(stream, Peer.okHeaders)
  }
}

const open = Effect.fnUntraced(function*(script: Peer.Script, options: Partial<Transport.ChannelOptions> = {}) {
  const { channel, peer } = yield* pair(script, options)
  const received = new Received()
  const stream = yield* channel.stream(path, received)
  return { channel, peer, received, stream, connection: yield* peer.connection(0) }
})

describe("a stream", () => {
  it.live("a stream carries messages both ways until both sides have ended it", () =>
    Effect.gen(function*() {
      const { connection, received, stream } = yield* open(opening)
      stream.send(bytes("one"))
      stream.send(bytes("two"))
      yield* connection.until(({ requests }) =>
        requests.get(1)?.equals(Buffer.concat([
          Peer.message("one"),
          Peer.message("two")
        ])) === true
      )
      connection.data(1, Buffer.concat([Peer.message("a"), Peer.message("b"), Peer.message("c").subarray(0, 3)]))
      yield* received.until(() => received.messages.length === 2)
      stream.end()
      connection.data(1, Peer.message("c").subarray(3))
      connection.trailers(1, 0)
      assert.isUndefined(yield* received.ended)
      assert.deepStrictEqual(received.messages, ["a", "b", "c"])
      assert.strictEqual(received.ends.length, 1)
      assert.strictEqual(connection.count(Peer.Type.RST_STREAM), 0)
    }))

  it.live("a stream ends once, with the server's status, after all messages", () =>
    Effect.gen(function*() {
      const { connection, received, stream } = yield* open(opening)
      stream.send(bytes("x"))
      yield* connection.until(({ requests }) => requests.size === 1)
      connection.data(1, Peer.message("last"))
      connection.trailers(1, 14, "leaving")
      const failure = yield* received.ended
      assert.deepStrictEqual([failure?.code, failure?.details, failure?.delivery], [14, "leaving", "Sent"])
      assert.deepStrictEqual(received.messages, ["last"])
      // This side has ended too: Node 24 sends END_STREAM, Node 22 sends RST_STREAM.
      yield* connection.until((connection) =>
        connection.frames.some(({ flags, type }) => type === Peer.Type.DATA && flags === 1) ||
        connection.count(Peer.Type.RST_STREAM, 1) === 1
      )
      assert.strictEqual(received.ends.length, 1)
      assert.isFalse(stream.send(bytes("late")))
    }))

  it.live("a stream that breaks, is rejected or receives invalid data fails once", () =>
    Effect.gen(function*() {
      const ends: ReadonlyArray<readonly [(connection: Peer.PeerConnection) => void, number, RegExp]> = [
        [(connection) => connection.socket.destroy(), Status.UNAVAILABLE, /closed|ECONNRESET/],
        [(connection) => connection.reset(1, 2), Status.INTERNAL, /INTERNAL_ERROR/],
        [(connection) => connection.data(1, Peer.message("zip", 1)), Status.INTERNAL, /compressed/],
        [(connection) => connection.data(1, Peer.message("x".repeat(11))), Status.RESOURCE_EXHAUSTED, /is 10 bytes/],
        [(connection) => connection.data(1, Buffer.from([0, 0]), true), Status.UNKNOWN, /without a grpc-status/]
      ]
      for (const [act, code, details] of ends) {
        const { connection, received } = yield* open(opening, { maxMessageSize: 10 })
        yield* connection.until(({ frames }) => frames.some(({ type }) => type === Peer.Type.HEADERS))
        act(connection)
        const failure = yield* received.ended
        assert.strictEqual(failure?.code, code)
        assert.match(failure!.details, details)
        assert.strictEqual(received.ends.length, 1)
      }
    }))

  it.live("a stream is known not to have been processed if the server rejects it or its GOAWAY excludes it", () =>
    Effect.gen(function*() {
      for (
        const act of [
          (connection: Peer.PeerConnection) => connection.reset(1, 7),
          (connection: Peer.PeerConnection) => connection.goaway(0, 0, "restart")
        ]
      ) {
        const { received } = yield* open({
          onFrame: (connection, { type }) => {
            if (type === Peer.Type.HEADERS) act(connection)
          }
        })
        assert.strictEqual((yield* received.ended)?.delivery, "NotProcessed")
      }
    }))

  it.live("a paused stream receives nothing, stops the server, does not delay other calls, and resumes at its position", () =>
    Effect.gen(function*() {
      const window = 100_000
      const part = Buffer.concat([Peer.message("x".repeat(995)), Peer.message("")])
      const total = 2000
      let sent = 0
      let allowed = window
      // Sends as much as the client's window for the stream allows.
      const send = (connection: Peer.PeerConnection): void => {
        for (; sent < total && allowed >= part.length; sent++, allowed -= part.length) connection.data(1, part)
        if (sent === total) connection.trailers(1, 0)
      }
      const { channel, connection, received, stream } = yield* open({
        onFrame: (connection, { payload, stream, type }) => {
          if (type === Peer.Type.HEADERS && stream === 1) connection.headers(1, Peer.okHeaders)
          if (type !== Peer.Type.WINDOW_UPDATE || stream !== 1) return
          allowed += payload.readUInt32BE(0)
          if (sent < total) send(connection)
        },
        onRequest: (connection, stream, message) => connection.respond(stream, message)
      }, { window: { stream: window } })
      yield* connection.until(({ frames }) => frames.some(({ type }) => type === Peer.Type.HEADERS))
      received.onEach = () => stream.pause()
      send(connection)
      for (let i = 0; i < 20; i++) assert.strictEqual(yield* call(channel, "pass"), "pass")
      assert.strictEqual(received.messages.length, 1)
      assert.isBelow(sent * part.length, 4 * window)
      received.onEach = undefined
      stream.resume()
      assert.isUndefined(yield* received.ended)
      assert.strictEqual(received.messages.length, 2 * total)
      assert.isTrue(received.messages.every(({ length }, i) => length === (i % 2 === 0 ? 995 : 0)))
    }))

  it.live("a stream that ends while it is paused delivers the received messages before the end when it resumes", () =>
    Effect.gen(function*() {
      const { channel, connection, received, stream } = yield* open({ ...opening, ...responding })
      yield* connection.until(({ frames }) => frames.some(({ type }) => type === Peer.Type.HEADERS))
      received.onEach = () => stream.pause()
      connection.data(1, Buffer.concat(["a", "b", "c"].map((text) => Peer.message(text))))
      connection.data(1, Peer.message("d"))
      connection.trailers(1, 5, "gone")
      yield* call(channel)
      assert.deepStrictEqual([received.messages, received.ends], [["a"], []])
      for (const count of [2, 3, 4]) {
        stream.resume()
        yield* received.until(() => received.messages.length === count)
        if (count < 4) assert.deepStrictEqual(received.ends, [])
      }
      received.onEach = undefined
      stream.resume()
      assert.strictEqual((yield* received.ended)?.code, 5)
      assert.deepStrictEqual(received.messages, ["a", "b", "c", "d"])
    }))

  it.live("a stream whose connection breaks while it is paused reports that when it resumes", () =>
    Effect.gen(function*() {
      const { channel, connection, received, stream } = yield* open(opening)
      yield* connection.until(({ frames }) => frames.some(({ type }) => type === Peer.Type.HEADERS))
      received.onEach = () => stream.pause()
      connection.data(1, Buffer.concat(["a", "b"].map((text) => Peer.message(text))))
      yield* received.until(() => received.messages.length === 1)
      connection.socket.destroy()
      yield* Effect.repeat(Effect.sleep("1 millis"), { until: () => channel.state() !== "Ready" })
      assert.deepStrictEqual(received.ends, [])
      received.onEach = undefined
      stream.resume()
      assert.strictEqual((yield* received.ended)?.code, Status.UNAVAILABLE)
      assert.deepStrictEqual(received.messages, ["a", "b"])
    }))

  it.live("a stream to a slow reader reports that it is full, and when there is room again", () =>
    Effect.gen(function*() {
      const { connection, stream } = yield* open(opening)
      const part = Buffer.alloc(10_000)
      let sent = 0
      while (stream.send(part)) sent += 1
      assert.isBelow(sent, 100)
      const drained = yield* Effect.forkChild(stream.drained, { startImmediately: true })
      yield* connection.until(({ requests }) => (requests.get(1)?.length ?? 0) > 0)
      const grant = Buffer.alloc(4)
      grant.writeUInt32BE(10_000_000)
      connection.write(Peer.encode(Peer.Type.WINDOW_UPDATE, 0, 0, grant))
      connection.write(Peer.encode(Peer.Type.WINDOW_UPDATE, 0, 1, grant))
      yield* Fiber.join(drained)
      yield* connection.until(({ requests }) => (requests.get(1)?.length ?? 0) >= (sent + 1) * 10_005)
    }))

  it.live("a stream is reset with CANCEL, once, when its scope closes or it is cancelled, and its listener is not called again", () =>
    Effect.gen(function*() {
      const { channel, peer } = yield* pair(opening)
      const received = new Received()
      const scope = yield* Scope.make()
      const first = yield* Scope.provide(channel.stream(path, received), scope)
      const connection = yield* peer.connection(0)
      yield* connection.until(({ frames }) => frames.some(({ type }) => type === Peer.Type.HEADERS))
      first.cancel()
      first.cancel()
      yield* Scope.close(scope, Exit.void)
      yield* connection.until((connection) => connection.count(Peer.Type.RST_STREAM, 1) === 1)
      connection.data(1, Peer.message("late"))
      yield* Effect.scoped(channel.stream(path, received))
      yield* connection.until((connection) => connection.count(Peer.Type.RST_STREAM, 3) === 1)
      assert.strictEqual(connection.count(Peer.Type.RST_STREAM), 2)
      assert.deepStrictEqual([received.messages, received.ends], [[], []])
    }))

  it.live("a stream beyond the server's limit fails as not sent after its time to wait, and an open stream is not limited by it", () =>
    Effect.gen(function*() {
      const { channel, peer } = yield* pair({ ...opening, settings: { 3: 1 } })
      const received = new Received()
      yield* channel.settle
      yield* channel.stream(path, received, { sendTimeout: 20 })
      const { code, delivery, details } = yield* Effect.flip(channel.stream(path, new Received(), { sendTimeout: 60 }))
      assert.deepStrictEqual([code, delivery], [Status.DEADLINE_EXCEEDED, "NotSent"])
      assert.strictEqual(details, "not sent within 60 ms; the server's limit of 1 streams at a time is reached")
      const connection = yield* peer.connection(0)
      connection.data(1, Peer.message("open"))
      yield* received.until(() => received.messages.length === 1)
      assert.deepStrictEqual(received.ends, [])
      const waiting = yield* Effect.forkChild(channel.stream(path, new Received(), { sendTimeout: 20_000 }), {
        startImmediately: true
      })
      connection.trailers(1, 0)
      yield* Fiber.join(waiting)
      yield* connection.until((connection) => connection.count(Peer.Type.HEADERS) === 2)
    }))

  it.live("a stream that is interrupted while it waits for a connection is never opened", () =>
    Effect.gen(function*() {
      const { channel, peer } = yield* pair({ ...responding, settings: { 3: 0 } })
      yield* channel.settle
      const opened = yield* Effect.forkChild(Effect.scoped(channel.stream(path, new Received())), {
        startImmediately: true
      })
      yield* Fiber.interrupt(opened)
      const connection = yield* peer.connection(0)
      connection.settings({ 3: 5 })
      assert.strictEqual(yield* call(channel), "re: request")
      assert.strictEqual(connection.count(Peer.Type.HEADERS), 1)
    }))

  it.live("pings keep a quiet stream alive, and its connection is closed if they get no response", () =>
    Effect.gen(function*() {
      let responds = true
      const { connection, received } = yield* open({
        onFrame: (connection, frame) =>
          frame.type === Peer.Type.HEADERS
            ? connection.headers(frame.stream, Peer.okHeaders)
            : frame.type === Peer.Type.PING && !responds
      }, {
        keepAlive: { time: "60 millis", minimumInterval: "50 millis", timeout: "200 millis", suspectAfter: "60 millis" }
      })
      yield* connection.until((connection) => connection.count(Peer.Type.PING) === 3)
      assert.deepStrictEqual(received.ends, [])
      responds = false
      const failure = yield* received.ended
      assert.match(failure!.details, /no response to a ping within 200 ms/)
    }))
})
