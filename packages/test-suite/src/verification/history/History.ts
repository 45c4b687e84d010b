/**
 * A history of the clients of a store, as plain data: the input of the checkers.
 *
 * A `Recorder` makes it. It contains calls, watches, holdings of locks and fenced effects. It can be saved as text and loaded
 * again, with the same results of the checkers. Unlike the logs of this library it contains values: do not record secrets.
 */
import type * as Effect from "effect/Effect"
import type { Call, History } from "./records.ts"
import * as internal from "./text.ts"
import { HistoryUnreadable } from "./text.ts"

export type * from "./records.ts"

/**
 * A history without records.
 *
 * @since 0.1.0
 */
export const empty: History = { calls: [], watches: [], holdings: [], effects: [] }

/**
 * A call of `execute`.
 *
 * @since 0.1.0
 */
export type OpCall = Call & { readonly request: { readonly _tag: "Execute" } }

/**
 * Whether a call is of `execute`.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { MemoryStore } from "@effect-kv/memory"
 * import { History, Recorder } from "@effect-kv/test-suite/verification"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* MemoryStore.make()
 *   const recorder = yield* Recorder.make
 *   const kv = yield* Effect.flatMap(store.connect, (backend) => Kv.make(recorder.client("a")(backend)))
 *   yield* kv.put("a", "1")
 *   const { calls } = yield* recorder.history
 *   const requested = calls.filter(History.isOpCall).map((call) => call.request.op._tag) // => ["Put"]
 * })
 * ```
 *
 * @since 0.1.0
 */
export const isOpCall = (call: Call): call is OpCall => call.request._tag === "Execute"

/**
 * Whether the outcome of a call is unknown: it may have changed the store, or may still change it.
 *
 * @example
 * ```ts
 * import { History } from "@effect-kv/test-suite/verification"
 *
 * const call: History.Call = {
 *   _tag: "Call",
 *   id: 1,
 *   client: "a",
 *   request: { _tag: "LeaseRevoke", id: 7n },
 *   invoked: { order: 1, nanos: 0n },
 *   outcome: { _tag: "Pending" }
 * }
 * History.isUnknown(call) // => true
 * History.isUnknown({ ...call, outcome: { _tag: "Responded", response: { _tag: "LeaseRevoked" } } }) // => false
 * ```
 *
 * @since 0.1.0
 */
export const isUnknown = (call: Call): boolean => {
  switch (call.outcome._tag) {
    case "Responded":
      return false
    case "Failed":
      return call.outcome.outcome === "Unknown"
    case "Interrupted":
    case "Died":
    case "Pending":
      return true
  }
}

/**
 * The history without events after a revision, for checkers that know the changes of the store up to this revision.
 *
 * **When to use**
 *
 * For checkers that know the store's own history up to that revision.
 *
 * @example
 * ```ts
 * import { History } from "@effect-kv/test-suite/verification"
 *
 * History.watchedUpTo(History.empty, 10n) // => History.empty
 * ```
 *
 * @since 0.1.0
 */
export const watchedUpTo = (history: History, revision: bigint): History => ({
  ...history,
  watches: history.watches.map((watch) => ({
    ...watch,
    batches: watch.batches.filter((batch) => batch.revision <= revision)
  }))
})

export { HistoryUnreadable }

/**
 * Saves a history as text: a header line, then one line of JSON for each record.
 *
 * @example
 * ```ts
 * import { History } from "@effect-kv/test-suite/verification"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const text = History.toText(History.empty)
 *   yield* History.fromText(text) // => History.empty
 * })
 * ```
 *
 * @since 0.1.0
 */
export const toText: (history: History) => string = internal.toText

/**
 * Loads a history from text.
 *
 * @example
 * ```ts
 * import { History } from "@effect-kv/test-suite/verification"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const error = yield* Effect.flip(History.fromText("not a history"))
 *   error._tag // => "HistoryUnreadable"
 * })
 * ```
 *
 * @since 0.1.0
 */
export const fromText: (text: string) => Effect.Effect<History, HistoryUnreadable> = internal.fromText
