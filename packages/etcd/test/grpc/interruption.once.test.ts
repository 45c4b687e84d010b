/**
 * Many calls on a peer that allows few streams, interrupted and closed at random moments: each ends, and nothing is left.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import { Reset } from "../../src/grpc/status.ts"
import { call, channelTo, pair, path, responding } from "./support/client.ts"
import * as Peer from "./support/Peer.ts"

/** The setting SETTINGS_MAX_CONCURRENT_STREAMS. */
const maxConcurrentStreams = 3
/** The setting SETTINGS_INITIAL_WINDOW_SIZE. */
const initialWindowSize = 4

it.live(
  "Of 1,000 calls on a peer that allows 7 streams, each gets its own response, unless it is interrupted",
  () =>
    Effect.gen(function*() {
      const { channel, peer } = yield* pair({ settings: { [maxConcurrentStreams]: 7 }, ...responding })
      const numbers = Array.from({ length: 1000 }, (_, i) => i)
      const fibers = yield* Effect.forEach(numbers, (i) => Effect.forkChild(Effect.exit(call(channel, `${i}`))))
      for (const i of numbers.filter((i) => i % 3 === 0)) {
        if (i % 60 === 0) yield* Effect.sleep("1 millis")
        yield* Fiber.interrupt(fibers[i]!)
      }
      for (const i of numbers.filter((i) => i % 3 !== 0)) {
        assert.deepStrictEqual(yield* Fiber.join(fibers[i]!), Exit.succeed(`re: ${i}`))
      }
      assert.strictEqual(yield* call(channel, "after"), "re: after")
      assert.strictEqual(peer.connections.length, 1)
    }),
  30_000
)

const handles = (): number =>
  process.getActiveResourcesInfo().filter((name) => /TCPSocketWrap|TLSWrap|Timeout/.test(name)).length

/** What the peer does with a request; with most nothing. */
const misbehaviours: ReadonlyArray<(connection: Peer.PeerConnection, stream: number) => void> = [
  (connection, stream) => connection.respond(stream),
  (connection, stream) => connection.headers(stream, Peer.okHeaders),
  (connection, stream) => {
    connection.headers(stream, Peer.okHeaders)
    connection.data(stream, Peer.message("half a response"))
  },
  (connection, stream) => connection.goaway(stream),
  (connection, stream) => connection.reset(stream, Reset.REFUSED_STREAM),
  ({ socket }) => socket.destroy()
]

/** Calls and streams of which some are interrupted before the channel closes under the others. */
const round = Effect.fnUntraced(function*(number: number) {
  const random = yield* Random.Random
  const peer = yield* Peer.make({
    settings: { [maxConcurrentStreams]: 3, ...(number % 2 === 0 ? { [initialWindowSize]: 10 } : {}) },
    onRequest: (connection, stream) =>
      misbehaviours[Math.floor(random.nextDoubleUnsafe() * 2 * misbehaviours.length)]?.(connection, stream)
  })
  const scope = yield* Scope.make()
  const channel = yield* Scope.provide(channelTo(peer.port, { keepAlive: { suspectAfter: "50 millis" } }), scope)
  const streaming = Effect.scoped(
    Effect.andThen(channel.stream(path, { onMessage: () => {}, onEnd: () => {} }), Effect.never)
  )
  const fibers = [
    ...(yield* Effect.replicateEffect(Effect.forkChild(Effect.exit(call(channel, "x".repeat(100)))), 10)),
    ...(yield* Effect.replicateEffect(Effect.forkChild(Effect.exit(streaming)), 4))
  ]
  yield* Effect.sleep(yield* Random.nextIntBetween(0, 30))
  yield* Effect.forEach(fibers.filter((_, i) => i % 2 === 0), Fiber.interrupt)
  yield* Effect.sleep(yield* Random.nextIntBetween(0, 10))
  yield* Scope.close(scope, Exit.void)
  yield* Fiber.interruptAll(fibers.slice(10))
  yield* Effect.timeout(Fiber.awaitAll(fibers), "5 seconds")
})

it.live(
  "Calls and streams that are interrupted, or whose channel closes, at any moment leave no socket and no timer",
  () =>
    Effect.gen(function*() {
      const before = handles()
      for (let number = 0; number < 40; number++) yield* Effect.scoped(round(number))
      yield* Effect.repeat(Effect.sleep("5 millis"), { until: () => handles() <= before, times: 400 })
      assert.isAtMost(handles(), before)
    }),
  60_000
)
