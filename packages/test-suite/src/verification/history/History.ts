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

/** A history without records. */
export const empty: History = { calls: [], watches: [], holdings: [], effects: [] }

/** A call of `execute`. */
export type OpCall = Call & { readonly request: { readonly _tag: "Execute" } }

/** Whether a call is of `execute`. */
export const isOpCall = (call: Call): call is OpCall => call.request._tag === "Execute"

/** Whether the outcome of a call is unknown: it may have changed the store, or may still change it. */
export const isUnknown = (call: Call): boolean => {
  switch (call.outcome._tag) {
    case "Answered":
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
 */
export const watchedUpTo = (history: History, revision: bigint): History => ({
  ...history,
  watches: history.watches.map((watch) => ({
    ...watch,
    batches: watch.batches.filter((batch) => batch.revision <= revision)
  }))
})

export {
  /** The text is not a saved history. */
  HistoryUnreadable
}

/** Saves a history as text: a header line, then one line of JSON for each record. */
export const toText: (history: History) => string = internal.toText

/** Loads a history from text. */
export const fromText: (text: string) => Effect.Effect<History, HistoryUnreadable> = internal.fromText
