/**
 * Faults of the links between clients and members: each returns when the links are healed again.
 */
import { TcpProxy } from "@effect-kv/test-suite/verification"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { Fault } from "../Fault.ts"
import type { Testbed } from "../Testbed.ts"

type Proxy = TcpProxy.TcpProxy

/** Nothing went over the links for so long that the fault could strike nothing. */
export class FaultMissed extends Data.TaggedError("FaultMissed")<{ readonly message: string }> {}

/**
 * The links that are meant: all of the clients', or of each the one that it uses, for a client keeps to one member while that
 * is well. It is told by what goes over it in a moment.
 */
const links = (testbed: Testbed, { clients, everyMember, slot }: Fault): Effect.Effect<ReadonlyArray<Proxy>> => {
  const rows = clients.map((client) => testbed.links[client]!)
  if (everyMember) return Effect.succeed(rows.flat())
  return Effect.gen(function*() {
    const before = yield* Effect.forEach(rows, (row) => Effect.forEach(row, traffic))
    yield* Effect.sleep(trafficWindow)
    const after = yield* Effect.forEach(rows, (row) => Effect.forEach(row, traffic))
    return rows.map((row, r) => {
      const went = row.map((_, i) => after[r]![i]! - before[r]![i]!)
      const most = Math.max(...went)
      return row[most === 0 ? slot : went.indexOf(most)]!
    })
  })
}

const trafficWindow = "100 millis"

const traffic = (proxy: Proxy): Effect.Effect<number> =>
  Effect.map(proxy.stats, ({ bytesToClient, bytesToServer }) => bytesToClient + bytesToServer)

const struck = (proxies: ReadonlyArray<Proxy>): Effect.Effect<number> =>
  Effect.map(Effect.forEach(proxies, (proxy) => proxy.stats), (all) => all.reduce((sum, { struck }) => sum + struck, 0))

/** How long a fault is kept up beyond its time until it has met something. */
const untilStruckRetries = { schedule: Schedule.spaced("100 millis"), times: 100 }

/** Does something to links again and again until one of them has met it: a fault that meets nothing is none. */
const untilStruck = (proxies: ReadonlyArray<Proxy>, before: number, again: Effect.Effect<void>) =>
  Effect.flatMap(struck(proxies), (now) => now > before ? Effect.void : Effect.andThen(again, new FaultMissed(missed)))
    .pipe(
      Effect.retry(untilStruckRetries)
    )

const missed = { message: "nothing went over the links" }

const all = <A, E>(proxies: ReadonlyArray<Proxy>, f: (proxy: Proxy) => Effect.Effect<A, E>): Effect.Effect<void, E> =>
  Effect.forEach(proxies, f, { concurrency: "unbounded", discard: true })

const heal = (proxies: ReadonlyArray<Proxy>) => all(proxies, (proxy) => proxy.heal)

/** From `begin` on, until the links are healed. */
const during = (begin: (proxy: Proxy) => Effect.Effect<void>) =>
  Effect.fnUntraced(function*(testbed: Testbed, fault: Fault) {
    const proxies = yield* links(testbed, fault)
    const before = yield* struck(proxies)
    const beginAll = all(proxies, begin)
    yield* Effect.acquireUseRelease(
      beginAll,
      () => Effect.andThen(Effect.sleep(fault.millis), untilStruck(proxies, before, beginAll)),
      () => heal(proxies)
    )
  })

/** All connections at once, several times. */
export const cut = Effect.fnUntraced(function*(testbed: Testbed, fault: Fault) {
  const proxies = yield* links(testbed, fault)
  const before = yield* struck(proxies)
  const cutAll = all(proxies, (proxy) => proxy.cut)
  yield* Effect.repeat(Effect.andThen(cutAll, Effect.sleep("150 millis")), { times: Math.floor(fault.millis / 150) })
  yield* untilStruck(proxies, before, cutAll)
})

export const delay = (testbed: Testbed, fault: Fault) => during((proxy) => proxy.delay(fault.amount))(testbed, fault)

export const throttle = (testbed: Testbed, fault: Fault) =>
  during((proxy) => proxy.throttle(fault.amount))(testbed, fault)

/** Silence, after which what was held back goes on. */
export const blackhole = during((proxy) => proxy.blackhole())

/** Silence, after which connections that lost bytes are cut. */
export const loseBytes = during((proxy) => proxy.blackhole({ drop: true }))

export const loseAnswers = during((proxy) => proxy.dropResponses)

/** The server's side is closed and the client does not hear of it. */
export const halfOpen = during((proxy) => proxy.halfOpen)

/**
 * Traps on every link, laid again as they strike: for as long as the fault lasts, and until one has struck.
 */
const striking = (arm: (proxy: Proxy) => Effect.Effect<TcpProxy.Armed>) =>
  Effect.fnUntraced(function*(testbed: Testbed, fault: Fault) {
    const proxies = yield* links(testbed, fault)
    const before = yield* struck(proxies)
    const again = (proxy: Proxy) =>
      Effect.forever(
        Effect.flatMap(arm(proxy), ({ struck }) => struck).pipe(Effect.andThen(Effect.sleep("30 millis")))
      )
    yield* Effect.raceFirst(
      all(proxies, again),
      Effect.andThen(Effect.sleep(fault.millis), untilStruck(proxies, before, Effect.void))
    ).pipe(Effect.ensuring(Effect.orDie(heal(proxies))))
  })

/**
 * Whether what a client sends holds a request: not only the beginning of a connection, which would keep it from ever being
 * used, nor what HTTP/2 says of itself, such as a ping or that there is room.
 */
const isRequest = (chunk: Uint8Array): boolean => chunk.length > longestControlFrames && !beginsConnection(chunk)

/** Two pings, or a ping and two window updates. */
const longestControlFrames = 43

const beginsConnection = (chunk: Uint8Array): boolean =>
  chunk.length < 100 && TcpProxy.contains("PRI * HTTP/2.0")(chunk)

export const cutBeforeForwarding = striking((proxy) => proxy.cutBeforeForwarding({ when: isRequest }))

export const cutAfterForwarding = striking((proxy) => proxy.cutAfterForwarding({ when: isRequest }))

export const cutMidFrame = striking((proxy) => proxy.cutMidFrame())
