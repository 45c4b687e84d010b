/**
 * Faults of the links between clients and servers. Each returns when the links are healed.
 */
import type { TcpProxy } from "@effect-kv/test-suite/verification"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { Fault } from "../Fault.ts"
import type { Testbed } from "../Testbed.ts"

type Proxy = TcpProxy.TcpProxy

/** No data went over the links, so the fault had no effect. */
export class FaultMissed extends Data.TaggedError("FaultMissed")<{ readonly message: string }> {}

/**
 * The affected links: all links of the clients, or the one in use by each, because a client stays with a member while
 * it works. Recent traffic shows which one that is.
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

/** How much longer a fault lasts if it has had no effect yet. */
const untilStruckRetries = { schedule: Schedule.spaced("100 millis"), times: 100 }

/** Repeats a fault on links until it has had an effect on one of them. */
const untilStruck = (proxies: ReadonlyArray<Proxy>, before: number, again: Effect.Effect<void>) =>
  Effect.flatMap(struck(proxies), (now) => now > before ? Effect.void : Effect.andThen(again, new FaultMissed(missed)))
    .pipe(
      Effect.retry(untilStruckRetries)
    )

const missed = { message: "nothing went over the links" }

const all = <A, E>(proxies: ReadonlyArray<Proxy>, f: (proxy: Proxy) => Effect.Effect<A, E>): Effect.Effect<void, E> =>
  Effect.forEach(proxies, f, { concurrency: "unbounded", discard: true })

const heal = (proxies: ReadonlyArray<Proxy>) => all(proxies, (proxy) => proxy.heal)

/** Starts a fault on the links, and ends it by healing them. */
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

/** Cuts all connections at once, several times. */
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

/** Holds all data back, then passes it on. */
export const blackhole = during((proxy) => proxy.blackhole())

/** Drops all data, then cuts the connections that lost some. */
export const loseBytes = during((proxy) => proxy.blackhole({ drop: true }))

export const loseResponses = during((proxy) => proxy.dropResponses)

/** Closes the server's side without the client noticing. */
export const halfOpen = during((proxy) => proxy.halfOpen)

/**
 * Armed faults on every link, armed again when they strike, for as long as the fault lasts and until one has struck.
 */
const striking = (arm: (proxy: Proxy, when: TcpProxy.When) => Effect.Effect<TcpProxy.Armed>) =>
  Effect.fnUntraced(function*(testbed: Testbed, fault: Fault) {
    const when = { when: testbed.store.isRequest }
    const proxies = yield* links(testbed, fault)
    const before = yield* struck(proxies)
    const again = (proxy: Proxy) =>
      Effect.forever(
        Effect.flatMap(arm(proxy, when), ({ struck }) => struck).pipe(Effect.andThen(Effect.sleep("30 millis")))
      )
    yield* Effect.raceFirst(
      all(proxies, again),
      Effect.andThen(Effect.sleep(fault.millis), untilStruck(proxies, before, Effect.void))
    ).pipe(Effect.ensuring(Effect.orDie(heal(proxies))))
  })

export const cutBeforeForwarding = striking((proxy, when) => proxy.cutBeforeForwarding(when))

export const cutAfterForwarding = striking((proxy, when) => proxy.cutAfterForwarding(when))

export const cutMidFrame = striking((proxy) => proxy.cutMidFrame())
