/**
 * Several processes of a fleet in one test: clients of one store in memory, each with a store of queues and its own faults.
 */
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import type { KvError } from "@effect-kv/core/KvError"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { KvFaults } from "@effect-kv/test-suite/testing"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as PersistedQueue from "effect/persistence/PersistedQueue"
import type * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import * as KvPersistedQueue from "../../src/KvPersistedQueue.ts"

export interface Process {
  readonly faults: KvFaults.KvFaults
  readonly store: PersistedQueue.PersistedQueueStore["Service"]
  /** A queue of texts. */
  readonly queue: (
    name: string,
    options?: { readonly maxAttempts?: number; readonly retrySchedule?: Schedule.Schedule<unknown, number> }
  ) => Effect.Effect<PersistedQueue.PersistedQueue<string>>
  /** Ends the process in an orderly way. */
  readonly close: Effect.Effect<void>
}

export interface Fleet {
  readonly memory: MemoryStore.MemoryStore
  /** A client without faults, for the test itself. */
  readonly kv: Kv.Kv
  readonly start: (options?: {
    readonly ttl?: Duration.Input
    readonly change?: (backend: KvBackend) => KvBackend
  }) => Effect.Effect<Process, KvError, Scope.Scope>
}

export const fleet: Effect.Effect<Fleet, never, Scope.Scope> = Effect.gen(function*() {
  const memory = yield* MemoryStore.make()
  return {
    memory,
    kv: yield* Effect.flatMap(memory.connect, Kv.make),
    start: Effect.fnUntraced(function*(options) {
      const scope = yield* Scope.fork(yield* Effect.scope)
      return yield* Effect.gen(function*() {
        const backend = yield* memory.connect
        const faults = yield* KvFaults.make(options?.change?.(backend) ?? backend)
        const store = yield* Effect.provideService(
          KvPersistedQueue.makeStore({ ttl: options?.ttl ?? "10 seconds" }),
          Kv.Kv,
          faults.kv
        )
        const factory = yield* Effect.provideService(
          PersistedQueue.makeFactory,
          PersistedQueue.PersistedQueueStore,
          store
        )
        const process: Process = {
          faults,
          store,
          queue: (name, options) => factory.make({ name, schema: Schema.String, ...options }),
          close: Scope.close(scope, Exit.void)
        }
        return process
      }).pipe(Scope.provide(scope))
    })
  }
})

/** Lets all fibers run that do not wait for the clock. */
export const settled: Effect.Effect<void> = Effect.forEach(Array.from({ length: 200 }), () => Effect.yieldNow, {
  discard: true
})

/** Advances the clock, and lets all fibers run before and after that. */
export const advance = (time: Duration.Input): Effect.Effect<void> =>
  Effect.andThen(settled, Effect.andThen(TestClock.adjust(time), settled))
