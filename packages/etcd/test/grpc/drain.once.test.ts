/**
 * Draining a channel: what happens to its calls and connections.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { replaced, Status } from "../../src/grpc/status.ts"
import { bytes, call, pair, path, start } from "./support/client.ts"
import type * as Peer from "./support/Peer.ts"

/** A script that collects requests, so that the test decides when they get their responses. */
const collecting = () => {
  const streams: Array<number> = []
  const script: Peer.Script = { onRequest: (_, stream) => streams.push(stream) }
  return { streams, script }
}

describe("a draining channel", () => {
  it.live("calls in flight complete, later calls fail as not sent, and the connection closes after the last call", () =>
    Effect.gen(function*() {
      const { script, streams } = collecting()
      const { channel, peer } = yield* pair(script)
      const inFlight = yield* start(call(channel))
      const connection = yield* peer.connection(0)
      yield* connection.until(() => streams.length === 1)
      const draining = yield* start(channel.drain)
      assert.strictEqual(channel.state(), "Closed")
      const later = yield* Effect.flip(call(channel))
      assert.deepStrictEqual([later.code, later.delivery], [Status.CANCELLED, "NotSent"])
      assert.isFalse(connection.isEnded)
      assert.isUndefined(draining.fiber.pollUnsafe())
      connection.respond(streams[0]!, "complete")
      assert.deepStrictEqual(yield* inFlight.result, Result.succeed("complete"))
      yield* draining.result
      yield* connection.until(() => connection.isEnded)
      assert.strictEqual(peer.connections.length, 1)
    }))

  it.live("a stream in flight continues until it ends", () =>
    Effect.gen(function*() {
      const { script, streams } = collecting()
      const { channel, peer } = yield* pair(script)
      const received: Array<string> = []
      const stream = yield* channel.stream(path, {
        onMessage: (message) => received.push(message.toString()),
        onEnd: () => {}
      })
      stream.send(bytes("request"))
      stream.end()
      const connection = yield* peer.connection(0)
      yield* connection.until(() => streams.length === 1)
      const draining = yield* start(channel.drain)
      connection.respond(streams[0]!, "a message")
      yield* draining.result
      assert.deepStrictEqual(received, ["a message"])
    }))

  it.live("calls that wait for a connection fail as not sent, and connecting stops", () =>
    Effect.gen(function*() {
      const { channel, peer } = yield* pair({ swallow: () => true }, {
        connect: { sameAddressAfter: "1 hour", timeout: "1 hour" }
      })
      const waiting = yield* start(call(channel))
      const connection = yield* peer.connection(0)
      const settling = yield* start(channel.settle)
      yield* channel.drain
      const result = yield* waiting.result
      assert.strictEqual(Result.isFailure(result) && result.failure.delivery, "NotSent")
      yield* settling.result
      yield* connection.until(() => connection.isEnded)
      assert.strictEqual(peer.connections.length, 1)
    }))

  it.live("a channel that never connected is drained at once", () =>
    Effect.gen(function*() {
      const { channel, peer } = yield* pair({})
      yield* channel.drain
      assert.strictEqual((yield* Effect.flip(call(channel))).delivery, "NotSent")
      assert.strictEqual(peer.connections.length, 0)
    }))

  for (const when of ["before", "after"] as const) {
    it.live(`a connection that goes silent ${when} the channel drains gives up calls that can be repeated, and is not replaced`, () =>
      Effect.gen(function*() {
        let isDeaf = false
        const { script, streams } = collecting()
        const { channel, peer } = yield* pair({ ...script, isDeaf: () => isDeaf, swallow: () => isDeaf }, {
          keepAlive: { suspectAfter: "100 millis", minimumInterval: "10 millis" }
        })
        const repeatable = yield* start(call(channel, "request", { isRepeatable: true }))
        const connection = yield* peer.connection(0)
        yield* connection.until(() => streams.length === 1)
        isDeaf = true
        if (when === "before") yield* peer.connection(1)
        const opened = peer.connections.length
        const draining = yield* start(channel.drain)
        const result = yield* repeatable.result
        assert.strictEqual(Result.isFailure(result) && result.failure.details, replaced)
        yield* draining.result
        assert.strictEqual(peer.connections.length, opened)
      }))
  }
})
