/**
 * The machine's clock, for everything that communicates with a server.
 *
 * Under Effect's `TestClock` time stands still until the test moves it. A server's clock runs on: a lock would look
 * held long after its lease has expired, and a call to an unreachable server would never end.
 */
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as References from "effect/References"

/** Effect's default clock. */
const clock = Context.get(Context.empty(), Clock.Clock)

/** Runs the effect on the machine's clock. */
export const provide = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.clockWith((current) => current === clock ? effect : Effect.provideService(effect, Clock.Clock, clock))

/** The context for background work: the clock of the machine, and of the caller only where and what it logs. */
export const context: Effect.Effect<Context.Context<never>> = Effect.withFiber((fiber) =>
  Effect.succeed(
    Context.make(Clock.Clock, clock).pipe(
      Context.add(Logger.CurrentLoggers, fiber.getRef(Logger.CurrentLoggers)),
      Context.add(References.MinimumLogLevel, fiber.getRef(References.MinimumLogLevel))
    ) as Context.Context<never>
  )
)

/** Runs every call of the backend on the machine's clock. */
export const backend = (self: KvBackend): KvBackend => ({
  execute: (op) => provide(self.execute(op)),
  watch: (request) => provide(self.watch(request)),
  leaseGrant: (options) => provide(self.leaseGrant(options)),
  leaseKeepAlive: (id) => provide(self.leaseKeepAlive(id)),
  leaseRevoke: (id) => provide(self.leaseRevoke(id)),
  leaseTimeToLive: (id, options) => provide(self.leaseTimeToLive(id, options))
})

/** Sleeps for that many milliseconds of the machine's clock. */
export const realTimeSleep = (millis: number): Effect.Effect<void> => provide(Effect.sleep(millis))

/** Milliseconds of the clock that is never set: for lengths of time. */
export const monotonicMillisOf = (self: Clock.Clock): number => Number(self.monotonicTimeNanosUnsafe()) / 1_000_000

/** `monotonicMillisOf` the clock of the fiber. */
export const monotonicMillis: Effect.Effect<number> = Effect.clockWith((self) =>
  Effect.sync(() => monotonicMillisOf(self))
)
