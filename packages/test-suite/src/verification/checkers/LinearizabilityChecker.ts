/**
 * A checker of linearizability: each call must be able to take effect at one moment between its invocation and its
 * completion, so that all responses are right.
 *
 * It does not trust revisions, so it needs neither the changes of the store nor a store with correct revisions. The search
 * is Wing and Gong's with Lowe's memoization (see `search.ts`). Keys that no operation connects are checked separately,
 * because a history is linearizable if it is so for each object (Herlihy and Wing, 1990; Horn and Kroening, "Faster
 * linearizability checking via P-compositionality", 2015).
 */
import * as Op from "@effect-kv/core/Op"
import * as History from "../history/History.ts"
import { showCall } from "../history/show.ts"
import { type Component, components, type Participant } from "./components.ts"
import { execute } from "./Model.ts"
import { type Observation, observations } from "./observations.ts"
import { responseOf, SeenRevisions } from "./responses.ts"
import { type Operation, search } from "./search.ts"
import { StoreState } from "./StoreState.ts"
import type * as Violation_ from "./Violation.ts"

/**
 * The kinds of violations.
 *
 * @since 0.1.0
 */
export type Kind =
  /** No order of the calls explains their responses. */
  | "NotLinearizable"
  /** The budget was exhausted before an order was found or ruled out. */
  | "OutOfBudget"

/**
 * A violation.
 *
 * @since 0.1.0
 */
export type Violation = Violation_.Violation<Kind>

/**
 * Options of a check.
 *
 * @since 0.1.0
 */
export interface Options {
  /** The most steps of the search, for each group of connected keys. Default: 1,000,000. */
  readonly budget?: number | undefined
  /** The entries of the store at the start of the history. Default: none. */
  readonly initial?: ReadonlyArray<History.Row> | undefined
}

/**
 * Checks the calls of a history.
 *
 * **Details**
 *
 * Serializable reads, which may be stale, and reads at past revisions are not checked. The revisions of entries are
 * checked, those of responses to reads are not. Leases may end at any time after their grant, and end when they are
 * revoked.
 *
 * **Gotchas**
 *
 * The time grows exponentially with the calls in flight at the same time, and with the writes of unknown outcome.
 * Hundreds of calls of a few clients take milliseconds. Ten clients that lose every tenth response often exceed the
 * budget, and then the check fails. If the changes of the store are known, `RevisionChecker` needs no search.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { MemoryStore } from "@effect-kv/memory"
 * import { LinearizabilityChecker, Recorder } from "@effect-kv/test-suite/verification"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* MemoryStore.make()
 *   const recorder = yield* Recorder.make
 *   const kv = yield* Effect.flatMap(store.connect, (backend) => Kv.make(recorder.client("a")(backend)))
 *   yield* Effect.all([kv.put("a", "1"), kv.get("a")], { concurrency: "unbounded" })
 *   LinearizabilityChecker.check(yield* recorder.history) // => []
 * })
 * ```
 *
 * @since 0.1.0
 */
export const check = (
  history: Pick<History.History, "calls">,
  options: Options = {}
): ReadonlyArray<Violation> => {
  const initial = options.initial ?? []
  const guesses = {
    observationOf: observations(history.calls, initial),
    seen: new SeenRevisions({ calls: history.calls, watches: [] })
  }
  return components(history.calls, initial).flatMap((component) =>
    checkComponent(component, guesses, initial, options.budget ?? 1_000_000)
  )
}

const checkComponent = (
  component: Component,
  guesses: Guesses,
  rows: ReadonlyArray<History.Row>,
  budget: number
): ReadonlyArray<Violation> => {
  const { participants } = component
  const initial = StoreState.of(rows.filter((row) => component.keys.has(row.key)))
  const result = search<StoreState>({
    operations: participants.map((participant) => toOperation(participant, guesses)),
    initial,
    key: (state) => state.key,
    budget
  })
  if (result._tag === "Found") return []
  const keys = Array.from(component.keys, (key) => JSON.stringify(key))
  const where = `${participants.length} operations on ${keys.slice(0, 5).join(", ")}${keys.length > 5 ? ", ..." : ""}`
  if (result._tag === "OutOfBudget") {
    const message = `no order of ${where} was found or ruled out within ${budget} steps`
    return [{ kind: "OutOfBudget", message, records: [] }]
  }
  const next = result.next.map((i) => participants[i]!)
  const problems = next.map((participant) => `${describe(participant)}: ${problem(participant, result.state)}`)
  return [{
    kind: "NotLinearizable",
    message:
      `no order of ${where} explains the responses. The longest one has ${result.order.length} of them, and ends at ` +
      `${result.state.describe()}. The next candidates fail there: ${problems.join("; ")}`,
    records: next.flatMap((participant) => participant._tag === "Call" ? [participant.call.id] : [])
  }]
}

const describe = (participant: Participant): string =>
  participant._tag === "Call" ? showCall(participant.call) : `the end of lease ${participant.lease.toString(16)}`

/** Hints about when calls took effect. */
interface Guesses {
  readonly observationOf: ReturnType<typeof observations>
  readonly seen: SeenRevisions
}

/**
 * A write of unknown outcome whose value was seen took effect before. Revisions suggest the order in which to try the calls;
 * the search decides whether that order is right.
 */
const toOperation = (participant: Participant, { observationOf, seen }: Guesses): Operation<StoreState> => {
  if (participant._tag === "LeaseEnd") {
    return {
      invoked: participant.invoked,
      completed: Number.POSITIVE_INFINITY,
      isRequired: false,
      step: (state) => [state.endLease(participant.lease)]
    }
  }
  const { call } = participant
  const observation = observationOf(call)
  const completed = History.isUnknown(call) ? observation?.order : call.completed?.order
  const revision = responseOf(call)?.revision ?? observation?.modRevision ?? seen.before(call)?.revision ?? 0n
  const isRead = History.isOpCall(call) && !Op.isWrite(call.request.op)
  return {
    invoked: call.invoked.order,
    completed: completed ?? Number.POSITIVE_INFINITY,
    isRequired: completed !== undefined,
    guess: Number(revision) + (isRead ? 0.5 : 0),
    step: (state) => step(call, state, observation)
  }
}

const step = (
  call: History.Call,
  state: StoreState,
  observation: Observation | undefined
): ReadonlyArray<StoreState> => {
  const { request } = call
  switch (request._tag) {
    case "LeaseGrant":
      return [state]
    case "LeaseRevoke":
      return state.isEnded(request.id) ? [] : [state.endLease(request.id)]
    case "LeaseKeepAlive":
    case "LeaseTimeToLive":
      return state.isEnded(request.id) ? [] : [state]
    case "Execute":
  }
  return effects(call, state, observation).flatMap((effect) =>
    effect._tag === "Done" ? [state.write(effect.writes)] : []
  )
}

const effects = (call: History.Call, state: StoreState, observation?: Observation) => {
  if (!History.isOpCall(call)) return []
  const response = responseOf(call)
  return execute(
    { view: state, at: () => undefined, writeRevision: response?.revision ?? observation?.modRevision },
    call.request.op,
    response
  )
}

const problem = (participant: Participant, state: StoreState): string => {
  if (participant._tag === "LeaseEnd" || !History.isOpCall(participant.call)) return "the lease has ended"
  const [effect] = effects(participant.call, state)
  return effect?._tag === "Mismatch" ? effect.message : "it could be next, and then nothing explains the rest"
}
