/**
 * The calls of one revision, put in an order that explains all their responses.
 *
 * Usually there is one call. Several calls share a revision if the client or the store has batched them into one transaction.
 * All of them must have been in flight at the same time.
 */
import type * as History from "../history/History.ts"
import type { ModelRow } from "../history/rows.ts"
import { showCall } from "../history/show.ts"
import { type Attribution, type CallWithResponse, isWrite } from "./attribution.ts"
import { type Effect, execute } from "./Model.ts"
import type { Violation } from "./RevisionViolation.ts"
import { type Operation, search } from "./search.ts"
import { withWrites } from "./StoreView.ts"
import type { Timeline } from "./Timeline.ts"

/** The writes of the revision so far. */
type State = ReadonlyMap<string, ModelRow | undefined>

interface Participant {
  readonly call: History.OpCall
  readonly response: History.OpResponse | undefined
}

/** The violations of the calls of a revision. */
export const explain = (
  timeline: Timeline,
  revision: bigint,
  withResponse: ReadonlyArray<CallWithResponse>,
  { made, unknown }: Attribution,
  budget: number
): ReadonlyArray<Violation> => {
  const participants: ReadonlyArray<Participant> = [
    ...withResponse,
    ...unknown.map((call) => ({ call, response: undefined }))
  ]
  if (participants.length === 0) return []
  const steps = new Map(timeline.stepsAt(revision).map((step) => [step.key, step]))
  const before = timeline.at(revision - 1n)

  const effectsOf = ({ call, response }: Participant, state: State): ReadonlyArray<Effect> =>
    execute(
      { view: withWrites(before, state), at: (past) => timeline.at(past), writeRevision: revision },
      call.request.op,
      response
    )
  const next = (participant: Participant, state: State): ReadonlyArray<State> =>
    effectsOf(participant, state).flatMap((effect) => {
      if (effect._tag === "Mismatch") return []
      const writes = new Map(state)
      for (const write of effect.writes) {
        const step = steps.get(write.key)
        if (step === undefined || !isWrite(step, write)) return []
        writes.set(write.key, write.row)
      }
      return [writes]
    })

  const result = search<State>({
    operations: participants.map((participant): Operation<State> => ({
      invoked: participant.call.invoked.order,
      completed: participant.response === undefined
        ? Number.POSITIVE_INFINITY
        : participant.call.completed?.order ?? Number.POSITIVE_INFINITY,
      isRequired: true,
      step: (state) => next(participant, state)
    })),
    initial: new Map(),
    key: (state) => Array.from(state.keys()).sort().join("\u0000"),
    accept: (state) => state.size === made.size,
    budget
  })
  if (result._tag === "Found") return []
  const records = participants.map(({ call }) => call.id)
  if (result._tag === "OutOfBudget") {
    const message = `no order of the ${participants.length} calls of revision ${revision} was found within the budget`
    return [{ kind: "OutOfBudget", message, records, revision }]
  }
  // The calls that could not be put in order; or all of them, if together they write less than the store did.
  const stuck = participants.filter((_, i) => !result.order.includes(i))
  return (stuck.length > 0 ? stuck : participants).map(({ call, response }): Violation => {
    const [effect] = effectsOf({ call, response }, result.state)
    const problem = effect?._tag === "Mismatch" ? effect.message : "its writes are not the changes of the store"
    return {
      kind: "WrongResponse",
      message: `${showCall(call)} has a response at revision ${revision}: ${problem}`,
      records: [call.id],
      revision
    }
  })
}
