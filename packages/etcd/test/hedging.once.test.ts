/**
 * Reads that are sent to a second endpoint while the first may still respond, on scripted servers.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Peer from "./grpc/support/Peer.ts"
import { client } from "./support/client.ts"
import { eventually } from "./support/watching.ts"

describe.concurrent("a read without a response for half of its time", () => {
  /** An empty response to a range, from a store at this revision. */
  const emptyAt = (revision: number): Buffer => Buffer.from([0x0a, 8, 8, 1, 16, 1, 24, revision, 32, 1])
  const empty = emptyAt(7)

  /** Endpoints that respond when the test says so, and a client of them with a read in flight on two of them. */
  const hedged = Effect.fnUntraced(function*(endpoints: number) {
    const arrivals: Array<readonly [Peer.PeerConnection, number]> = []
    const peers = yield* Effect.replicateEffect(
      Peer.make({ onRequest: (connection, stream) => void arrivals.push([connection, stream]) }),
      endpoints
    )
    const kv = yield* client({ endpoints: peers.map(({ port }) => `http://127.0.0.1:${port}`), deadline: "4 seconds" })
    const reading = yield* Effect.forkChild(Effect.result(kv.get("a")))
    yield* eventually(Effect.sync(() => arrivals.length === 2))
    const [[first, stream], [second]] = arrivals as [typeof arrivals[0], typeof arrivals[0]]
    assert.notStrictEqual(first, second)
    assert.strictEqual(first.count(Peer.Type.RST_STREAM), 0)
    return { arrivals, first, kv, reading, second, stream }
  })

  for (const winner of ["first", "second"] as const) {
    it.live(`is sent to another endpoint beside it; if the ${winner} responds first, the other is cancelled`, () =>
      Effect.gen(function*() {
        const { arrivals, first, reading, second } = yield* hedged(2)
        const [[connection, stream], other] = winner === "first"
          ? [arrivals[0]!, second]
          : [arrivals[1]!, first]
        connection.respond(stream, empty)
        assert.deepStrictEqual(yield* Fiber.join(reading), Result.succeed(Option.none()))
        yield* other.until((connection) => connection.count(Peer.Type.RST_STREAM) === 1)
        assert.strictEqual(arrivals.length, 2)
      }))
  }

  it.live("is in flight twice at most, and succeeds if only its late attempt does", () =>
    Effect.gen(function*() {
      const { arrivals, first, reading, second, stream } = yield* hedged(3)
      yield* eventually(Effect.sync(() => arrivals.length === 3))
      yield* second.until((connection) => connection.count(Peer.Type.RST_STREAM) === 1)
      assert.strictEqual(first.count(Peer.Type.RST_STREAM), 0)
      first.respond(stream, empty)
      assert.deepStrictEqual(yield* Fiber.join(reading), Result.succeed(Option.none()))
    }), 20_000)

  it.live("is cancelled on both endpoints if it is interrupted", () =>
    Effect.gen(function*() {
      const { first, reading, second } = yield* hedged(2)
      yield* Fiber.interrupt(reading)
      for (const connection of [first, second]) {
        yield* connection.until((connection) => connection.count(Peer.Type.RST_STREAM) === 1)
      }
    }))

  it.live(
    "fails if its late attempt fails for good, and not if another endpoint may still respond",
    () =>
      Effect.gen(function*() {
        const trailers = (message: string) => ({ ...Peer.okHeaders, "grpc-status": "3", "grpc-message": message })
        const denied = yield* hedged(2)
        denied.first.headers(denied.stream, trailers("etcdserver: permission denied"), true)
        const failed = yield* Fiber.join(denied.reading)
        assert.strictEqual(Result.isFailure(failed) && failed.failure.reason._tag, "PermissionDenied")
        const broken = yield* hedged(2)
        broken.first.socket.destroy()
        const [connection, stream] = broken.arrivals[1]!
        connection.respond(stream, empty)
        assert.deepStrictEqual(yield* Fiber.join(broken.reading), Result.succeed(Option.none()))
      }),
    20_000
  )

  it.live("fails at its deadline if no endpoint responds", () =>
    Effect.gen(function*() {
      const { reading } = yield* hedged(2)
      const failed = yield* Fiber.join(reading)
      assert.strictEqual(Result.isFailure(failed) && failed.failure.reason._tag, "DeadlineExceeded")
    }), 20_000)

  it.live("is not taken for one from a replaced store if its late response is older than later ones", () =>
    Effect.gen(function*() {
      const arrivals: Array<readonly [Peer.PeerConnection, number]> = []
      const onRequest: Peer.Script["onRequest"] = (connection, stream) => void arrivals.push([connection, stream])
      const peers = yield* Effect.replicateEffect(Peer.make({ onRequest }), 2)
      const kv = yield* client({
        endpoints: peers.map(({ port }) => `http://127.0.0.1:${port}`),
        deadline: "4 seconds"
      })
      const late = yield* Effect.forkChild(kv.get("late"))
      yield* eventually(Effect.sync(() => arrivals.length === 1))
      const next = yield* Effect.forkChild(kv.get("next"))
      yield* eventually(Effect.sync(() => arrivals.length === 2))
      arrivals[1]![0].respond(arrivals[1]![1], emptyAt(20))
      yield* Fiber.join(next)
      yield* eventually(Effect.sync(() => arrivals.length === 3))
      arrivals[0]![0].respond(arrivals[0]![1], emptyAt(7))
      assert.deepStrictEqual(yield* Fiber.join(late), Option.none())
    }))
})
