/**
 * Faults of the links between clients and members: each returns when the links are whole again.
 */
import type * as TcpProxy from "@effect-kv/test-suite/TcpProxy"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type { Fault } from "../Fault.ts"
import type { Stage } from "../Stage.ts"

type Proxy = TcpProxy.TcpProxy

/** Nothing went over the links for so long that the fault could strike nothing. */
export class FaultMissed extends Data.TaggedError("FaultMissed")<{ readonly message: string }> {}

/** The links that are meant. */
const links = (stage: Stage, { clients, everyMember, slot }: Fault): ReadonlyArray<Proxy> =>
  clients.flatMap((client) => everyMember ? stage.links[client]! : [stage.links[client]![slot]!])

const all = <A, E>(proxies: ReadonlyArray<Proxy>, f: (proxy: Proxy) => Effect.Effect<A, E>): Effect.Effect<void, E> =>
  Effect.forEach(proxies, f, { concurrency: "unbounded", discard: true })

const heal = (proxies: ReadonlyArray<Proxy>) => all(proxies, (proxy) => proxy.heal)

/** From `begin` on, until the links are healed. */
const during = (begin: (proxy: Proxy) => Effect.Effect<void>) => (stage: Stage, fault: Fault) => {
  const proxies = links(stage, fault)
  return Effect.acquireUseRelease(all(proxies, begin), () => Effect.sleep(fault.millis), () => heal(proxies))
}

/** All connections at once, several times. */
export const cut = (stage: Stage, fault: Fault): Effect.Effect<void> =>
  Effect.andThen(all(links(stage, fault), (proxy) => proxy.cut), Effect.sleep("150 millis")).pipe(
    Effect.repeat({ times: Math.floor(fault.millis / 150) })
  )

export const delay = (stage: Stage, fault: Fault) => during((proxy) => proxy.delay(fault.amount))(stage, fault)

export const throttle = (stage: Stage, fault: Fault) => during((proxy) => proxy.throttle(fault.amount))(stage, fault)

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
const striking = (arm: (proxy: Proxy) => Effect.Effect<TcpProxy.Armed>) => (stage: Stage, fault: Fault) => {
  const proxies = links(stage, fault)
  let strikes = 0
  const again = (proxy: Proxy) =>
    Effect.forever(
      Effect.flatMap(arm(proxy), ({ struck }) => Effect.tap(struck, () => Effect.sync(() => strikes++)))
        .pipe(Effect.andThen(Effect.sleep("30 millis")))
    )
  const first = Effect.repeat(Effect.sleep("20 millis"), { until: () => strikes > 0 }).pipe(
    Effect.timeoutOrElse({
      duration: "10 seconds",
      orElse: () => Effect.fail(new FaultMissed({ message: "nothing went over the links" }))
    })
  )
  return Effect.raceFirst(
    all(proxies, again),
    Effect.andThen(Effect.sleep(fault.millis), first)
  ).pipe(Effect.ensuring(Effect.orDie(heal(proxies))))
}

export const cutBeforeForwarding = striking((proxy) => proxy.cutBeforeForwarding())

export const cutAfterForwarding = striking((proxy) => proxy.cutAfterForwarding())

export const cutMidFrame = striking((proxy) => proxy.cutMidFrame())
