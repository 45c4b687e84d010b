/**
 * What clients of a store asked and what came of it, as plain data: what the checkers judge.
 *
 * A history is made by a `Recorder`. It holds calls, watches, the holdings of locks and what was done under them. It can be
 * saved as text and loaded again, and a checker says the same of what was loaded. Values are in it, as in no log of this
 * library: do not record secrets.
 */
import type * as Effect from "effect/Effect"
import type { Call, History } from "./records.ts"
import * as internal from "./text.ts"
import { HistoryUnreadable } from "./text.ts"

export type * from "./records.ts"

/** A history in which nothing happened. */
export const empty: History = { calls: [], watches: [], holdings: [], effects: [] }

/** A call of `execute`. */
export type OpCall = Call & { readonly request: { readonly _tag: "Execute" } }

/** Whether a call is of `execute`. */
export const isOpCall = (call: Call): call is OpCall => call.request._tag === "Execute"

/** Whether a call may have changed the store, or may yet, for all that its client was told. */
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
 * The history without what watches delivered of revisions after the given one: for checkers that know the store's own
 * history up to it.
 */
export const watchedUpTo = (history: History, revision: bigint): History => ({
  ...history,
  watches: history.watches.map((watch) => ({
    ...watch,
    batches: watch.batches.filter((batch) => batch.revision <= revision)
  }))
})

export {
  /** A text is not a history that was saved. */
  HistoryUnreadable
}

/** The history as text: a first line that says what it is, then a line of JSON for each call, watch, holding and effect. */
export const toText: (history: History) => string = internal.toText

/** The history that was saved as the text. */
export const fromText: (text: string) => Effect.Effect<History, HistoryUnreadable> = internal.fromText
