/**
 * Spans for the calls to a backend, by OpenTelemetry's conventions for database clients.
 *
 * A span names the operation and never contains a value. It contains keys only if that is requested. `EtcdLayer` traces
 * by default, `MemoryLayer` does not. Without a tracer no span is made: Effect's built-in tracer exports nothing.
 */
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as Tracer from "effect/Tracer"
import { type Operation, operationOf } from "../internal/metrics/calls.ts"
import { errorTypeOf } from "../internal/metrics/errorType.ts"
import * as namespace from "../internal/tracing/namespace.ts"
import * as spans from "../internal/tracing/spans.ts"
import { describeRange } from "../internal/values/describeRange.ts"
import type { KvError } from "../values/KvError.ts"
import { isKvError } from "../values/KvError.ts"
import type * as Op from "../values/Op.ts"
import type { KvBackend } from "./KvBackend.ts"

/**
 * Attributes of every span of a backend, such as `{ "db.system.name": "etcd" }`.
 *
 * @since 0.1.0
 */
export type Attributes = Readonly<Record<string, string>>

/**
 * Options of spans.
 *
 * @since 0.1.0
 */
export interface Options {
  /** Whether spans contain the keys of calls, as `db.operation.parameter.key`. Default: false. */
  readonly keys?: boolean | undefined
  /**
   * What separates the `db.namespace` of the attributes from the prefixes of `Kv.prefixed`, if it is the name of a
   * database rather than a prefix of keys. Default: nothing.
   */
  readonly separator?: string | undefined
}

/**
 * Gives each call a span, named by its operation: `range`, `put`, `delete`, `txn`, `watch`, `leaseGrant` and so on.
 *
 * **Details**
 *
 * Its attributes are those given here and `db.operation.name`, `db.namespace` (the one given here and the prefixes of
 * `Kv.prefixed`), `db.response.returned_rows` of a range, and `error.type` and `db.response.status_code` of a failure.
 *
 * Without a tracer it costs almost nothing: Effect's built-in tracer exports nothing, so no span is made for it.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { Tracing } from "@effect-kv/core/backend"
 * import { Effect, Tracer } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const names: Array<string> = []
 *   const tracer = Tracer.make({
 *     span: (options) => {
 *       names.push(options.name)
 *       return new Tracer.NativeSpan(options)
 *     }
 *   })
 *   const kv = Kv.mapBackend(yield* Kv.Kv, Tracing.traced({ "db.system.name": "memory" }))
 *   yield* kv.put("a", "1").pipe(Effect.withTracer(tracer))
 *   const seen = names // => ["put"]
 * })
 * ```
 *
 * @since 0.1.0
 */
export const traced = (attributes: Attributes, options?: Options) => (backend: KvBackend): KvBackend => {
  const traced = <A, E, R>(
    operation: Operation,
    call: Effect.Effect<A, E, R>,
    more?: () => Record<string, unknown>
  ): Effect.Effect<A, E, R> =>
    Effect.withFiber<A, E, R>((fiber) =>
      spans.isTraced(fiber)
        ? spans.within(call, operation, {
          kind: "client",
          attributes: {
            ...attributes,
            ...namespaceOf(attributes, options?.separator, fiber),
            [spans.operation]: operation,
            ...more?.()
          }
        }, annotate)
        : call
    )
  const withKeys = options?.keys === true
  return {
    execute: (op) => traced(operationOf[op._tag], backend.execute(op), () => describe(op, withKeys)),
    watch: (request) =>
      traced("watch", backend.watch(request), () => keyAttribute(describeRange(request.range), withKeys)),
    leaseGrant: (options) => traced("leaseGrant", backend.leaseGrant(options)),
    leaseKeepAlive: (id) => traced("leaseKeepAlive", backend.leaseKeepAlive(id), () => lease(id)),
    leaseRevoke: (id) => traced("leaseRevoke", backend.leaseRevoke(id), () => lease(id)),
    leaseTimeToLive: (id, options) => traced("leaseTimeToLive", backend.leaseTimeToLive(id, options), () => lease(id))
  }
}

/**
 * The open span of the call that the fiber executes; `undefined` if no tracer is installed. For backends, to add what
 * only they know, such as the member that responded.
 *
 * @example
 * ```ts
 * import { Tracing } from "@effect-kv/core/backend"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const span = yield* Effect.withFiber((fiber) => Effect.succeed(Tracing.spanOf(fiber)))
 *   span?.attribute("server.address", "127.0.0.1")
 *   const isTraced = span !== undefined // => false
 * })
 * ```
 *
 * @since 0.1.0
 */
export const spanOf = (fiber: Fiber.Fiber<unknown, unknown>): Tracer.Span | undefined => spans.ofCall(fiber)

const namespaceOf = (
  attributes: Attributes,
  separator: string | undefined,
  fiber: Fiber.Fiber<unknown, unknown>
): Attributes => {
  const prefix = fiber.getRef(namespace.Current)
  const name = `${attributes["db.namespace"] ?? ""}${prefix === "" ? "" : separator ?? ""}${prefix}`
  return name === "" ? {} : { "db.namespace": name }
}

const annotate = (span: Tracer.Span, exit: Exit.Exit<unknown, unknown>): void => {
  if (exit._tag === "Success") {
    const rows = rowsOf(exit.value)
    if (rows !== undefined) span.attribute("db.response.returned_rows", rows)
    return
  }
  span.attribute("error.type", errorTypeOf(exit.cause))
  const error =
    exit.cause.reasons.flatMap((reason) => reason._tag === "Fail" && isKvError(reason.error) ? [reason.error] : [])[0]
  if (error !== undefined) annotateError(span, error)
}

const annotateError = (span: Tracer.Span, { outcome, status }: KvError): void => {
  span.attribute("effect_kv.outcome", outcome)
  if (status !== undefined) span.attribute("db.response.status_code", `${status}`)
}

const rowsOf = (response: unknown): number | undefined =>
  typeof response === "object" && response !== null && "entries" in response && Array.isArray(response.entries)
    ? response.entries.length
    : undefined

const lease = (id: bigint): Attributes => ({ "effect_kv.lease": id.toString(16) })

const keyAttribute = (key: string, isWanted: boolean): Attributes =>
  isWanted ? { "db.operation.parameter.key": key } : {}

const describe = (op: Op.Op, withKeys: boolean): Record<string, unknown> => {
  switch (op._tag) {
    case "Put":
      return keyAttribute(op.key, withKeys)
    case "Range":
    case "Delete":
      return keyAttribute(describeRange(op.range), withKeys)
    case "Txn":
      return { "effect_kv.txn": `if ${op.if.length} then ${op.then.length} else ${op.else.length}` }
  }
}
