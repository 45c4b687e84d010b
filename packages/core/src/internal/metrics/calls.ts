/**
 * The metrics of the calls to one backend.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import type { KvBackend } from "../../backend/KvBackend.ts"
import type * as Op from "../../values/Op.ts"
import { monotonicMillis } from "../values/monotonic.ts"
import type { Histogram } from "./cells.ts"
import type { Labels } from "./definition.ts"
import * as definitions from "./definitions.ts"
import { errorTypeOf } from "./errorType.ts"
import { Meter } from "./meter.ts"

/**
 * The operations of a backend, by the name that metrics and spans give them.
 *
 * @since 0.1.0
 */
export type Operation =
  | "range"
  | "put"
  | "delete"
  | "txn"
  | "watch"
  | "leaseGrant"
  | "leaseKeepAlive"
  | "leaseRevoke"
  | "leaseTimeToLive"

/** The operation that an `Op` is. */
export const operationOf: Readonly<Record<Op.Op["_tag"], Operation>> = {
  Range: "range",
  Put: "put",
  Delete: "delete",
  Txn: "txn"
}

/**
 * The metrics of the calls to one backend. Recording is plain code: it needs no fiber and no effect.
 *
 * @since 0.1.0
 */
export class Calls {
  readonly meter: Meter
  readonly labels: Labels
  /** How many requests are in flight. */
  inFlight = 0
  /** How many calls are queued for the next batch. */
  queued = 0
  readonly #succeeded: Partial<Record<Operation, Histogram>> = {}
  readonly #sizes: Record<string, Histogram> = {}

  constructor(meter: Meter, labels: Labels) {
    this.meter = meter
    this.labels = labels
  }

  /** Records a call that has ended. `errorType` is undefined if it has succeeded. */
  ended(operation: Operation, millis: number, errorType?: string): void {
    if (errorType === undefined) {
      const histogram = this.#succeeded[operation] ??= this.#durations({ "db.operation.name": operation })
      return histogram.record(millis / 1000)
    }
    this.#durations({ "db.operation.name": operation, "error.type": errorType }).record(millis / 1000)
  }

  /** Records a request with the operations of so many calls. */
  sent(kind: string, calls: number): void {
    const sizes = this.#sizes[kind] ??= this.meter.histogram(definitions.batchSize, { ...this.labels, kind })
    sizes.record(calls)
  }

  #durations(labels: Labels): Histogram {
    return this.meter.histogram(definitions.operationDuration, { ...this.labels, ...labels })
  }
}

/** The metrics of a backend's calls. Its gauges are removed when the scope closes. */
export const make = (labels: Labels): Effect.Effect<Calls, never, Scope.Scope> =>
  Effect.contextWith((context) => {
    const calls = new Calls(new Meter(context), labels)
    const remove = [
      calls.meter.gauge(definitions.requestsInFlight, labels, () => calls.inFlight),
      calls.meter.gauge(definitions.callsQueued, labels, () => calls.queued)
    ]
    return Effect.as(Effect.addFinalizer(() => Effect.sync(() => remove.forEach((f) => f()))), calls)
  })

/** Measures each call to the backend. */
export const measured = (calls: Calls) => (backend: KvBackend): KvBackend => {
  const measure = <A, E, R>(operation: Operation, call: () => Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.withFiber<A, E, R>((fiber) => {
      const clock = fiber.getRef(Clock.Clock)
      let began: number | undefined
      // Counted within the effect: one that is interrupted before it begins has no exit.
      const counted = Effect.suspend(() => {
        began = monotonicMillis(clock)
        calls.inFlight++
        return call()
      })
      return Effect.onExitPrimitive(counted, (exit: Exit.Exit<A, E>) => {
        if (began === undefined) return undefined
        calls.inFlight--
        const errorType = exit._tag === "Success" ? undefined : errorTypeOf(exit.cause)
        calls.ended(operation, monotonicMillis(clock) - began, errorType)
        return undefined
      })
    })
  return {
    execute: (op) => measure(operationOf[op._tag], () => backend.execute(op)),
    watch: (request) => measure("watch", () => backend.watch(request)),
    leaseGrant: (options) => measure("leaseGrant", () => backend.leaseGrant(options)),
    leaseKeepAlive: (id) => measure("leaseKeepAlive", () => backend.leaseKeepAlive(id)),
    leaseRevoke: (id) => measure("leaseRevoke", () => backend.leaseRevoke(id)),
    leaseTimeToLive: (id, options) => measure("leaseTimeToLive", () => backend.leaseTimeToLive(id, options))
  }
}
