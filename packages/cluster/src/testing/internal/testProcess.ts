/**
 * What makes fibers of a test a process: a clock that can stop, and a link to the store that stops with it.
 */
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import * as KvInternals from "@effect-kv/core/KvInternals"
import type * as Watch from "@effect-kv/core/Watch"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Logger from "effect/Logger"
import type * as Scope from "effect/Scope"

export interface TestProcess {
  readonly clock: Clock.Clock
  readonly kv: Kv.Kv
  /** Runs an effect, and all fibers it starts, in the process. */
  readonly run: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  readonly freeze: Effect.Effect<void>
  readonly thaw: Effect.Effect<void>
  /** From now on it reaches nothing, and all its waiting ends at once, so that its fibers can be ended. */
  readonly kill: Effect.Effect<void>
}

/** Makes a process that uses the store of this `Kv`, as a client of its own. */
export const make = Effect.fnUntraced(function*(store: Kv.Kv): Effect.fn.Return<TestProcess, never, Scope.Scope> {
  const base = yield* Clock.Clock
  const running = Latch.makeUnsafe(true)
  const dead = Latch.makeUnsafe()
  const clock: Clock.Clock = {
    currentTimeMillisUnsafe: () => base.currentTimeMillisUnsafe(),
    currentTimeMillis: base.currentTimeMillis,
    currentTimeNanosUnsafe: () => base.currentTimeNanosUnsafe(),
    currentTimeNanos: base.currentTimeNanos,
    monotonicTimeNanosUnsafe: () => base.monotonicTimeNanosUnsafe(),
    monotonicTimeNanos: base.monotonicTimeNanos,
    // Timers that were due while the process was frozen fire when it is thawed.
    sleep: (duration) => Effect.raceFirst(Effect.andThen(base.sleep(duration), running.await), dead.await)
  }
  const run: TestProcess["run"] = (effect) =>
    effect.pipe(
      Effect.provideService(Clock.Clock, clock),
      // A dead process does not log that it cannot release its locks.
      Effect.updateService(Logger.CurrentLoggers, (loggers) =>
        new Set(Array.from(loggers, (logger) =>
          Logger.make((options) =>
            dead.isOpen() ? undefined : logger.log(options)
          ))))
    )
  const backend = linked(KvInternals.backendOf(store), running.await, dead)
  return {
    clock,
    kv: yield* run(Kv.make(backend)),
    run,
    freeze: Effect.asVoid(running.close),
    thaw: Effect.asVoid(running.open),
    kill: Effect.andThen(dead.open, Effect.asVoid(running.open))
  }
})

/** A backend whose requests and responses wait while the process is frozen, and that is cut off once it is dead. */
const linked = (store: KvBackend, running: Effect.Effect<void>, dead: Latch.Latch): KvBackend => {
  const cutOff = KvError.fail(new KvError.Unavailable({ message: "the process was killed" }))
  const through = <A, R>(call: Effect.Effect<A, KvError.KvError, R>): Effect.Effect<A, KvError.KvError, R> =>
    Effect.andThen(
      running,
      Effect.suspend(() =>
        dead.isOpen() ? cutOff : Effect.raceFirst(
          Effect.flatMap(Effect.exit(call), (response) => Effect.andThen(running, response)),
          Effect.andThen(dead.await, cutOff)
        )
      )
    )
  const watched = (watcher: Watch.Watcher): Watch.Watcher => ({
    ...watcher,
    take: Effect.tap(watcher.take, () => running)
  })
  return {
    execute: (op) => through(store.execute(op)),
    watch: (request) => Effect.map(through(store.watch(request)), watched),
    leaseGrant: (options) => through(store.leaseGrant(options)),
    leaseKeepAlive: (id) => through(store.leaseKeepAlive(id)),
    leaseRevoke: (id) => through(store.leaseRevoke(id)),
    leaseTimeToLive: (id, options) => through(store.leaseTimeToLive(id, options))
  }
}
