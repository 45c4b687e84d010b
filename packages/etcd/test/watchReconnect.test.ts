/**
 * When a watch stream that broke is opened again, on the test clock and streams to a server in memory.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as KvError from "@effect-kv/core/KvError"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as TestClock from "effect/testing/TestClock"
import { failure, Status } from "../src/grpc/status.ts"
import type { Connection } from "../src/internal/rpc/connection.ts"
import type { WatchListener, WatchStream } from "../src/internal/rpc/watchStreams.ts"
import { StoreIdentity } from "../src/internal/store/storeIdentity.ts"
import { Suspicions } from "../src/internal/store/storeProbe.ts"
import * as watches from "../src/internal/watch/watch.ts"
import { type FakeStream, FakeWatchServer } from "./support/FakeWatchServer.ts"

const transient = {
  error: KvError.make(new KvError.Unavailable({ message: "cut" })),
  isTransient: true,
  refreshToken: false
}

/** A client of a server in memory, with a function that breaks its streams. */
const setUp = Effect.gen(function*() {
  const server = new FakeWatchServer(() => 0)
  const listeners = new Map<FakeStream, WatchListener>()
  let opened = 0
  const connection = {
    openWatchStream: () =>
      Effect.sync((): Omit<WatchStream, "status"> => {
        opened += 1
        const link = server.open()
        return {
          send: (request) => {
            link.receive(request)
            queueMicrotask(() => {
              for (const response of link.sent.splice(0)) listeners.get(link)?.onResponse(response)
            })
          },
          pause: () => {},
          resume: () => {},
          listen: (listener) => {
            listeners.set(link, listener)
            return () => listeners.delete(link)
          },
          endpoint: "fake",
          isEndpointRemoved: () => false
        }
      }),
    reportStreamFailure: () => {},
    onEndpointRemoved: () => () => {},
    streamFailure: () => transient,
    cancelFailure: () => transient,
    openingErrors: () => [],
    closed: Effect.never,
    store: { identity: new StoreIdentity(), suspicions: new Suspicions() }
  } as unknown as Connection
  const { open } = yield* watches.make(connection)
  return {
    open,
    opened: () => opened,
    cut: Effect.sync(() => {
      for (const listener of Array.from(listeners.values())) listener.onEnd(failure(Status.UNAVAILABLE, "cut", "Sent"))
    })
  }
})

/** Lets the fibers run that need no time to pass. */
const settled = Effect.repeat(Effect.andThen(Effect.promise(() => Promise.resolve()), Effect.yieldNow), { times: 50 })

it.effect("the streams of two lanes that break repeatedly are opened again at once if they are older than the wait, and otherwise when they are", () =>
  Effect.gen(function*() {
    const { cut, open, opened } = yield* setUp
    yield* open({ range: KeyRange.key("key") })
    yield* open({ range: KeyRange.prefix("range/") })
    assert.strictEqual(opened(), 2)
    for (let round = 1; round <= 6; round++) {
      yield* TestClock.adjust("1 second")
      yield* cut
      yield* settled
      assert.strictEqual(opened(), 2 + 2 * round)
    }
    // The streams are new now.
    yield* cut
    yield* TestClock.adjust("990 millis")
    assert.strictEqual(opened(), 14)
    yield* TestClock.adjust("10 millis")
    yield* settled
    assert.strictEqual(opened(), 16)
  }).pipe(Effect.provideService(Random.Random, { nextDoubleUnsafe: () => 1, nextIntUnsafe: () => 1 })))
