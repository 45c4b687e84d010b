/**
 * Helpers for corruptions: seeded choices from a history, and changes of its calls.
 */
import { History } from "@effect-kv/test-suite/verification"
import type { Run } from "../goodHistories.ts"

/** Makes the same choices for the same seed. */
export class Pick {
  #state: number

  constructor(seed: number) {
    this.#state = seed * 2654435761 % 2 ** 32
  }

  index(length: number): number {
    this.#state = (Math.imul(this.#state, 1664525) + 1013904223) >>> 0
    return Math.floor(this.#state / 2 ** 32 * length)
  }

  /** One of the items, `undefined` if there is none: then the corruption does not apply to the history. */
  one<A>(all: ReadonlyArray<A>): A | undefined {
    return all[this.index(all.length)]
  }
}

/** Corrupts a good history; `undefined` if the corruption does not apply to it. */
export type Corrupt = (run: Run, pick: Pick) => Run | undefined

export type CallWithResponse = History.OpCall & {
  readonly completed: History.Moment
  readonly outcome: { readonly _tag: "Responded"; readonly response: History.OpResponse }
}

/** The operations with a response. */
export const callsWithResponse = (run: Run): ReadonlyArray<CallWithResponse> =>
  run.history.calls.filter((call): call is CallWithResponse =>
    History.isOpCall(call) && call.outcome._tag === "Responded"
  )

export type PutWithResponse = CallWithResponse & {
  readonly request: { readonly op: Extract<History.OpCall["request"]["op"], { readonly _tag: "Put" }> }
  readonly outcome: { readonly response: Extract<History.OpResponse, { readonly _tag: "Put" }> }
}

export const puts = (run: Run): ReadonlyArray<PutWithResponse> =>
  callsWithResponse(run).filter((call): call is PutWithResponse =>
    call.request.op._tag === "Put" && call.client !== "last"
  )

/** The history with a call replaced or removed. */
export const replaceCall = (run: Run, id: number, call: History.Call | undefined): Run => ({
  ...run,
  history: {
    ...run.history,
    calls: run.history.calls.flatMap((each) => each.id === id ? call === undefined ? [] : [call] : [each])
  }
})

/** The history with one more call. */
export const addCall = (run: Run, call: History.Call): Run => ({
  ...run,
  history: { ...run.history, calls: [...run.history.calls, call] }
})

export const withResponse = (call: CallWithResponse, response: History.OpResponse): History.Call => ({
  ...call,
  outcome: { _tag: "Responded", response }
})

/** An id and moments after all others. */
export const after = (run: Run) => {
  const order = Math.max(
    ...run.history.calls.flatMap((call) => [call.invoked.order, call.completed?.order ?? 0]),
    ...run.history.watches.flatMap((watch) => watch.batches.map((batch) => batch.at.order))
  )
  const nanos = 1_000_000_000_000n
  return {
    id: 1_000_000,
    invoked: { order: order + 1, nanos },
    completed: { order: order + 2, nanos }
  }
}
