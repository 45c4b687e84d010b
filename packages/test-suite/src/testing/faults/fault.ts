/** Faults that can strike one call. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

/**
 * A fault that strikes a call. Combine the fields yourself for a fault that the constructors do not make.
 *
 * @since 0.1.0
 */
export interface Fault {
  /** The name of the fault in the list of injected faults. */
  readonly description: string
  /** The request never leaves: `Unavailable`. */
  readonly isUnsent?: boolean
  /** Runs while the request is on its way to the store. */
  readonly onRequest?: Effect.Effect<void>
  /** Runs while the response is on its way back. */
  readonly onResponse?: Effect.Effect<void>
  /** What does not arrive. The connection breaks when it is lost: a write is `Indeterminate`, a read is repeated. */
  readonly lose?: "request" | "response"
  /** The caller does not notice a loss: it waits until its deadline. A read then fails with `DeadlineExceeded`. */
  readonly isSilent?: boolean
  /** The connection breaks as soon as the request has left. The request still arrives. */
  readonly isBrokenAtOnce?: boolean
}

/**
 * A fault that loses a request or a response.
 *
 * @since 0.1.0
 */
export interface Loss extends Fault {
  readonly lose: "request" | "response"
}

/**
 * The request does not leave and changes nothing: `Unavailable`.
 *
 * @since 0.1.0
 */
export const unavailable: Fault = { description: "unavailable", isUnsent: true }

/**
 * Delays the request on its way to the store. If the deadline passes meanwhile, the request still arrives.
 *
 * @example
 * ```ts
 * import { Deadline, Kv } from "@effect-kv/core"
 * import { MemoryLayer } from "@effect-kv/memory"
 * import { KvFaults } from "@effect-kv/test-suite/testing"
 * import { Effect, Layer } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const faults = yield* KvFaults.KvFaults
 *   yield* faults.inject(KvFaults.delayRequest("100 millis"))
 *   const error = yield* Kv.put("a", "1").pipe(Deadline.within("10 millis"), Effect.flip)
 *   error.reason._tag // => "Indeterminate"
 * }).pipe(Effect.provide(KvFaults.layer().pipe(Layer.provide(MemoryLayer.layer))))
 * ```
 *
 * @since 0.1.0
 */
export const delayRequest = (duration: Duration.Input): Fault => ({
  description: `request delayed by ${Duration.format(Duration.fromInputUnsafe(duration))}`,
  onRequest: Effect.sleep(duration)
})

/**
 * Delays the response on its way back.
 *
 * @example
 * ```ts
 * import { Deadline, Kv } from "@effect-kv/core"
 * import { MemoryLayer } from "@effect-kv/memory"
 * import { KvFaults } from "@effect-kv/test-suite/testing"
 * import { Effect, Layer } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const faults = yield* KvFaults.KvFaults
 *   yield* faults.inject(KvFaults.delayResponse("100 millis"))
 *   const error = yield* Kv.get("a").pipe(Deadline.within("10 millis"), Effect.flip)
 *   error.reason._tag // => "DeadlineExceeded"
 * }).pipe(Effect.provide(KvFaults.layer().pipe(Layer.provide(MemoryLayer.layer))))
 * ```
 *
 * @since 0.1.0
 */
export const delayResponse = (duration: Duration.Input): Fault => ({
  description: `response delayed by ${Duration.format(Duration.fromInputUnsafe(duration))}`,
  onResponse: Effect.sleep(duration)
})

/**
 * The connection breaks before the request arrives. A write is `Indeterminate`, and was **not** applied.
 *
 * @since 0.1.0
 */
export const loseRequest: Loss = { description: "request lost", lose: "request" }

/**
 * The connection breaks before the response arrives. A write is `Indeterminate`, and **was** applied.
 *
 * @since 0.1.0
 */
export const loseResponse: Loss = { description: "response lost", lose: "response" }

/**
 * The connection breaks at once, and the request arrives after the duration. A write is `Indeterminate`, and **will
 * be** applied.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { MemoryLayer } from "@effect-kv/memory"
 * import { KvFaults } from "@effect-kv/test-suite/testing"
 * import { Effect, Layer } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const faults = yield* KvFaults.KvFaults
 *   const { revision } = yield* Kv.put("a", "1")
 *   yield* faults.inject(KvFaults.applyLate("10 millis"))
 *   const error = yield* Effect.flip(Kv.put("a", "2"))
 *   error.reason._tag // => "Indeterminate"
 *   yield* Kv.waitForChange("a", { startRevision: revision + 1n })
 *   yield* Kv.get("a") // => Option.some("2")
 * }).pipe(Effect.provide(KvFaults.layer().pipe(Layer.provide(MemoryLayer.layer))))
 * ```
 *
 * @since 0.1.0
 */
export const applyLate = (duration: Duration.Input): Fault => ({
  description: `connection broken, and request delayed by ${Duration.format(Duration.fromInputUnsafe(duration))}`,
  onRequest: Effect.sleep(duration),
  isBrokenAtOnce: true
})

/**
 * Makes a loss silent: no connection breaks, and the caller waits until its deadline.
 *
 * @example
 * ```ts
 * import { Deadline, Kv } from "@effect-kv/core"
 * import { MemoryLayer } from "@effect-kv/memory"
 * import { KvFaults } from "@effect-kv/test-suite/testing"
 * import { Effect, Layer } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const faults = yield* KvFaults.KvFaults
 *   yield* faults.inject(KvFaults.silently(KvFaults.loseResponse))
 *   const error = yield* Kv.put("a", "1").pipe(Deadline.within("10 millis"), Effect.flip)
 *   error.reason._tag // => "Indeterminate"
 *   yield* Kv.get("a") // => Option.some("1")
 * }).pipe(Effect.provide(KvFaults.layer().pipe(Layer.provide(MemoryLayer.layer))))
 * ```
 *
 * @since 0.1.0
 */
export const silently = (fault: Loss): Loss => ({
  ...fault,
  description: `${fault.description} silently`,
  isSilent: true
})
