/**
 * Effect's `CircuitBreaker` on a `Kv`: the processes of a fleet share the state of their circuits.
 *
 * A call through a closed circuit costs no request: a watch keeps the state of all circuits in memory. Only what changes a
 * circuit is written: a failure that starts or continues a streak, the success that ends it, and transitions. A half-open
 * circuit admits one probe in the fleet. Its place is a key on a session's lease, so a probe whose process dies frees it.
 */
import type * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { CircuitBreakerStore } from "effect/persistence/CircuitBreaker"
import type * as Scope from "effect/Scope"
import * as store from "./internal/breaker/store.ts"
import * as checked from "./internal/checked.ts"

/**
 * Options of a store of circuits.
 *
 * @since 0.1.0
 */
export interface Options {
  /**
   * The prefix of all keys. A slash is added if it does not end with one. Stores with different prefixes share nothing.
   * Default: `circuit-breaker/`.
   */
  readonly prefix?: string | undefined
  /**
   * Time to live of the lease of a probe: after that long another call becomes the probe if the process has died. Whole
   * seconds; etcd grants at least 2. Default: 10 seconds.
   */
  readonly probeLease?: Duration.Input | undefined
  /**
   * How long a circuit is remembered after its last change, beyond the time that it is open. Then it is closed, with a
   * backoff count of 0. Whole seconds. Default: 1 hour.
   */
  readonly idleTimeToLive?: Duration.Input | undefined
}

/**
 * Makes a store of circuits. Processes that use the same prefix share their circuits.
 *
 * **Details**
 *
 * It fails with `InvalidRequest` if an option is wrong. It does not wait for the store: until the circuits were read once,
 * each call reads its own.
 *
 * A request of a call waits at most one second. If it fails, the call fails with `CircuitBreakerStoreError`, or runs
 * without being recorded: that is the breaker's `onStoreError`. An outcome may also wait for the write before it. While the
 * store is away, a circuit stays as it was seen last: a closed one admits calls without a request.
 *
 * **Gotchas**
 *
 * The time at which a circuit opened is that of the process that opened it. A clock that is ahead by some seconds admits
 * the probe that much earlier. A clock that is behind, or is set back, never makes it later than the open time after this
 * process has seen the opening.
 *
 * A `Rate` policy writes each outcome of each call to one key: choose `CircuitBreaker.consecutive` for calls that are
 * frequent. Outcomes of one process that wait for the store are written together.
 *
 * @example
 * ```ts
 * import { KvCircuitBreaker } from "@effect-kv/persistence"
 * import { Effect } from "effect"
 * import { CircuitBreaker } from "effect/persistence"
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* KvCircuitBreaker.makeStore({ prefix: "my-app/circuits" })
 *   const breaker = yield* CircuitBreaker.make({
 *     tripPolicy: CircuitBreaker.consecutive(1),
 *     openDuration: "30 seconds"
 *   }).pipe(Effect.provideService(CircuitBreaker.CircuitBreakerStore, store))
 *   yield* Effect.flip(breaker.execute(Effect.fail("unavailable"), { key: "payments" }))
 *   const circuit = yield* breaker.state("payments")
 *   circuit._tag // => "Open"
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const makeStore = Effect.fnUntraced(function*(
  options?: Options
): Effect.fn.Return<CircuitBreakerStore["Service"], KvError, Kv.Kv | Scope.Scope> {
  return yield* store.make({
    prefix: yield* checked.prefix(options?.prefix ?? "circuit-breaker/"),
    probeLease: yield* checked.positive("probeLease", options?.probeLease ?? "10 seconds"),
    idleTimeToLive: yield* checked.positive("idleTimeToLive", options?.idleTimeToLive ?? "1 hour")
  })
})

/**
 * The `CircuitBreakerStore` of a layer, for `CircuitBreaker.layer`: see {@link makeStore}.
 *
 * @example
 * ```ts
 * import { KvCircuitBreaker } from "@effect-kv/persistence"
 * import { Effect, Layer } from "effect"
 * import { CircuitBreaker } from "effect/persistence"
 *
 * const Breaker = CircuitBreaker.layer({ tripPolicy: CircuitBreaker.consecutive(5), openDuration: "30 seconds" }).pipe(
 *   Layer.provide(KvCircuitBreaker.layerStore())
 * )
 *
 * const program = Effect.gen(function*() {
 *   const breaker = yield* CircuitBreaker.CircuitBreaker
 *   yield* Effect.succeed("paid").pipe(breaker.execute({ key: "payments" })) // => "paid"
 * }).pipe(Effect.provide(Breaker))
 * ```
 *
 * @since 0.1.0
 */
export const layerStore = (options?: Options): Layer.Layer<CircuitBreakerStore, KvError, Kv.Kv> =>
  Layer.effect(CircuitBreakerStore, makeStore(options))
