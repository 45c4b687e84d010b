/**
 * Taking from a watch at every point at which a fiber can yield: each event is delivered, and delivered once.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as KvError from "@effect-kv/core/KvError"
import type { Watcher } from "@effect-kv/core/Watch"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
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

/** The multiplexer on streams to a server in memory. The endpoint of the first streams is removed while they open. */
const open = Effect.fnUntraced(function*(streamsToRemoved = 0) {
  const server = new FakeWatchServer(() => 0)
  const links: Array<{ readonly link: FakeStream; readonly listener: () => WatchListener | undefined }> = []
  const flush = () => {
    for (const { link, listener } of links) {
      link.sync()
      for (let sent = link.sent.shift(); sent !== undefined; sent = link.sent.shift()) listener()?.onResponse(sent)
    }
  }
  const store = { identity: new StoreIdentity(), suspicions: new Suspicions() }
  // Every read confirms that the store is the same.
  yield* Effect.forkScoped(store.suspicions.settleAll(() => Effect.void))
  const connection = {
    openWatchStream: () =>
      Effect.sync((): Omit<WatchStream, "status"> => {
        const link = server.open()
        const isEndpointRemoved = links.length < streamsToRemoved
        let listener: WatchListener | undefined
        links.push({ link, listener: () => listener })
        return {
          send: (request) => {
            link.receive(request)
            setImmediate(flush)
          },
          pause: () => {},
          resume: () => {},
          listen: (added) => {
            listener = added
            return () => {
              listener = undefined
            }
          },
          endpoint: "fake",
          isEndpointRemoved: () => isEndpointRemoved
        }
      }),
    reportStreamFailure: () => {},
    onEndpointRemoved: () => () => {},
    streamFailure: () => transient,
    cancelFailure: () => transient,
    closed: Effect.never,
    store
  } as unknown as Connection
  const write = (key: string) => {
    server.write([{ key, isDelete: false }])
    flush()
  }
  const cut = () => {
    for (const { listener } of links.splice(0)) listener()?.onEnd(undefined)
  }
  return { server, streams: () => links.length, watches: yield* watches.make(connection), write, cut, flush }
})

const burn = (steps: number): Effect.Effect<void> => steps === 0 ? Effect.void : Effect.suspend(() => burn(steps - 1))

/** Around the number of steps after which a fiber yields: `Scheduler.MaxOpsBeforeYield` is 2048. */
const points = Array.from({ length: 45 }, (_, i) => 2012 + i)

/** A take that stalls never ends. */
const promptly = (take: Watcher["take"]) => Effect.timeoutOption(take, "10 seconds")

describe("take", () => {
  it.live("take returns events that arrived while its fiber had yielded", () =>
    Effect.gen(function*() {
      const { watches, write } = yield* open()
      for (const steps of points) {
        yield* Effect.scoped(Effect.gen(function*() {
          const watcher = yield* watches.open({ range: KeyRange.all })
          const fiber = Effect.runFork(Effect.andThen(burn(steps), promptly(watcher.take)))
          setImmediate(() => write("a"))
          assert.isTrue(Option.isSome(yield* Fiber.join(fiber)), `stalled after ${steps} steps`)
        }))
      }
    }), 60_000)

  it.live("a watch whose stream was opened to an endpoint that was removed meanwhile moves to another stream", () =>
    Effect.gen(function*() {
      const { streams, watches, write } = yield* open(1)
      const watcher = yield* watches.open({ range: KeyRange.all })
      assert.strictEqual(streams(), 2)
      write("a")
      assert.isTrue(Option.isSome(yield* promptly(watcher.take)))
    }))

  it.live("an interrupted take leaves its events to the next one", () =>
    Effect.gen(function*() {
      const { watches, write } = yield* open()
      for (const steps of points) {
        yield* Effect.scoped(Effect.gen(function*() {
          const watcher = yield* watches.open({ range: KeyRange.all })
          write("a")
          const fiber = Effect.runFork(Effect.andThen(burn(steps), watcher.take))
          fiber.interruptUnsafe()
          const exit = yield* Fiber.await(fiber)
          if (Exit.isFailure(exit)) {
            assert.isTrue(Option.isSome(yield* promptly(watcher.take)), `lost after ${steps} steps`)
          }
        }))
      }
    }), 60_000)

  it.live("a watch from revision 1 delivers all of history, also from a member that lags behind known revisions", () =>
    Effect.gen(function*() {
      const { cut, flush, server, watches, write } = yield* open()
      for (let i = 0; i < 1005; i++) server.write([{ key: `a${i}`, isDelete: false }])
      yield* watches.open({ range: KeyRange.all })
      server.log.splice(989)
      server.revision = 990
      cut()
      yield* Effect.sleep("200 millis")
      const fiber = yield* Effect.forkChild(
        Effect.flatMap(watches.open({ range: KeyRange.all, startRevision: 1n }), (watcher) => watcher.take)
      )
      const flushing = setInterval(flush, 10)
      yield* Effect.addFinalizer(() => Effect.sync(() => clearInterval(flushing)))
      yield* Effect.sleep("50 millis")
      write("later")
      assert.strictEqual((yield* Fiber.join(fiber))[0].revision, 2n)
    }))
})
