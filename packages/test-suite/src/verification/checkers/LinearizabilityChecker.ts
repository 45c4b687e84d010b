/**
 * Checker of linearizability: whether each call can have taken effect at one moment between its invocation and its
 * completion, so that all responses are right.
 *
 * It takes no revision for granted, so it needs neither the store's own history nor a store that numbers its revisions
 * well. The search is Wing and Gong's with Lowe's memory (see `search.ts`). Keys that no operation connects are checked
 * apart, since a history is linearizable if it is for each of its objects (Herlihy and Wing, 1990; Horn and Kroening,
 * "Faster linearizability checking via P-compositionality", 2015).
 */
import * as Op from "@effect-kv/core/Op"
import * as History from "../history/History.ts"
import { showCall } from "../history/show.ts"
import { responseOf, Sights } from "./answers.ts"
import { type Component, components, type Participant } from "./components.ts"
import { carryOut } from "./Model.ts"
import { observations, type Sighting } from "./observations.ts"
import { type Operation, search } from "./search.ts"
import { StoreState } from "./StoreState.ts"
import type * as Violation_ from "./Violation.ts"

/**
 * The kinds of violations that this checker finds.
 *
 * @since 0.1.0
 */
export type Kind =
  /** No order of the calls explains their answers. */
  | "NotLinearizable"
  /** Whether there is one was not found out within the budget. */
  | "OutOfBudget"

/**
 * A violation that this checker found.
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
  /** How many times operations may be tried, for each group of connected keys. Default: 1,000,000. */
  readonly budget?: number | undefined
  /** The content of the store before the history began. Default: empty. */
  readonly initial?: ReadonlyArray<History.Row> | undefined
}

/**
 * Checks the calls of a history.
 *
 * **Details**
 *
 * Reads that may be stale (`serializable`) and reads of past revisions are not checked, nor are the revisions of
 * responses to reads; revisions of entries are. Leases may end at any time after they were granted, and do end when
 * they are revoked.
 *
 * **Gotchas**
 *
 * The time it takes grows exponentially with the calls in flight at the same time, and with the writes without a
 * response. Some hundred calls of a few clients take milliseconds. Ten clients that lose every tenth response often
 * exceed the budget; the check then fails. If the store's own history is at hand, use `RevisionChecker`, which needs no
 * search.
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
    sightingOf: observations(history.calls, initial),
    sights: new Sights({ calls: history.calls, watches: [] })
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
    const message = `whether ${where} can be put in order was not found out in ${budget} steps`
    return [{ kind: "OutOfBudget", message, records: [] }]
  }
  const next = result.next.map((i) => participants[i]!)
  const problems = next.map((participant) => `${describe(participant)}: ${problem(participant, result.state)}`)
  return [{
    kind: "NotLinearizable",
    message:
      `no order of ${where} explains the answers. The farthest one got to ${result.order.length} of them, and to ` +
      `${result.state.describe()}; there, of what could be next, ${problems.join("; ")}`,
    records: next.flatMap((participant) => participant._tag === "Call" ? [participant.call.id] : [])
  }]
}

const describe = (participant: Participant): string =>
  participant._tag === "Call" ? showCall(participant.call) : `the end of lease ${participant.lease.toString(16)}`

/** What is known of when calls took effect. */
interface Guesses {
  readonly sightingOf: ReturnType<typeof observations>
  readonly sights: Sights
}

/**
 * A write without an answer whose value was seen has taken effect before it was. Revisions tell in which order to try the
 * calls; whether that order is right is for the search to find out.
 */
const toOperation = (participant: Participant, { sightingOf, sights }: Guesses): Operation<StoreState> => {
  if (participant._tag === "LeaseEnd") {
    return {
      invoked: participant.invoked,
      completed: Number.POSITIVE_INFINITY,
      isRequired: false,
      step: (state) => [state.endLease(participant.lease)]
    }
  }
  const { call } = participant
  const sighting = sightingOf(call)
  const completed = History.isUnknown(call) ? sighting?.order : call.completed?.order
  const revision = responseOf(call)?.revision ?? sighting?.modRevision ?? sights.before(call)?.revision ?? 0n
  const isRead = History.isOpCall(call) && !Op.isWrite(call.request.op)
  return {
    invoked: call.invoked.order,
    completed: completed ?? Number.POSITIVE_INFINITY,
    isRequired: completed !== undefined,
    guess: Number(revision) + (isRead ? 0.5 : 0),
    step: (state) => step(call, state, sighting)
  }
}

const step = (call: History.Call, state: StoreState, sighting: Sighting | undefined): ReadonlyArray<StoreState> => {
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
  return effects(call, state, sighting).flatMap((effect) => effect._tag === "Done" ? [state.write(effect.writes)] : [])
}

const effects = (call: History.Call, state: StoreState, sighting?: Sighting) => {
  if (!History.isOpCall(call)) return []
  const response = responseOf(call)
  return carryOut(
    { view: state, at: () => undefined, writeRevision: response?.revision ?? sighting?.modRevision },
    call.request.op,
    response
  )
}

const problem = (participant: Participant, state: StoreState): string => {
  if (participant._tag === "LeaseEnd" || !History.isOpCall(participant.call)) return "the lease has ended"
  const [effect] = effects(participant.call, state)
  return effect?._tag === "Mismatch" ? effect.message : "it could be next, and then nothing explains the rest"
}
