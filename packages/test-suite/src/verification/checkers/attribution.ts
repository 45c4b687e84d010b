/**
 * The attribution of changes: finds the call that made each change of the store.
 *
 * The response to a call claims its changes. The remaining changes were made by calls of unknown outcome, found by the value
 * they put or the keys they delete, or by the end of a lease, which deletes all its keys at once. A change without a possible
 * maker is a violation, whose kind depends on the calls that resemble it.
 */
import type { Value } from "@effect-kv/core/Entry"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Op from "@effect-kv/core/Op"
import type { Change } from "../history/Changes.ts"
import type * as History from "../history/History.ts"
import { sameRow } from "../history/rows.ts"
import { showCall } from "../history/show.ts"
import { sameValue, showValue } from "../history/values.ts"
import { CallIndex, putKey, rangesOf } from "./callIndex.ts"
import { LeaseKeys } from "./LeaseKeys.ts"
import { execute, type Write } from "./Model.ts"
import { responseOf, type SeenRevisions } from "./responses.ts"
import type { Violation } from "./RevisionViolation.ts"
import type { Step, Timeline } from "./Timeline.ts"

/** A call with its response. */
export interface CallWithResponse {
  readonly call: History.OpCall
  readonly response: History.OpResponse
}

/** The end of a lease at a revision. */
export interface LeaseEnd {
  readonly lease: bigint
  readonly revision: bigint
}

/** All calls, those of unknown outcome, and those that must not have been applied. */
export interface Calls {
  readonly all: ReadonlyArray<History.Call>
  readonly calls: ReadonlyArray<History.OpCall>
  readonly unknown: ReadonlyArray<History.OpCall>
  readonly notApplied: ReadonlyArray<History.OpCall>
}

/** The makers of the changes of a revision. */
export interface Attribution {
  readonly violations: ReadonlyArray<Violation>
  /** The calls of unknown outcome that were applied at the revision. */
  readonly unknown: ReadonlyArray<History.OpCall>
  /** The keys changed by calls of the history, and not by the end of a lease or by foreign clients. */
  readonly made: ReadonlySet<string>
}

/** The calls of unknown outcome that explain changes of a revision. */
interface Explanation {
  readonly revision: bigint
  readonly left: ReadonlyArray<Step>
  readonly calls: ReadonlyArray<History.OpCall>
}

/** The same, with the changes that remain unexplained. */
interface Explained {
  readonly calls: ReadonlyArray<History.OpCall>
  readonly unexplained: ReadonlyArray<Step>
}

export class ChangeAttribution {
  /** The ids of the calls of unknown outcome that were applied. */
  readonly applied = new Set<number>()
  /** By the ids of these calls: what each was applied for. */
  readonly #explanations = new Map<number, Explanation>()
  /** The ends of leases. */
  readonly leaseEnds: Array<LeaseEnd> = []
  readonly #timeline: Timeline
  readonly #unknown: ReadonlySet<History.OpCall>
  readonly #notApplied: ReadonlySet<History.OpCall>
  readonly #index: CallIndex
  /** The first revision of each value of each key. Computed at the first lost write. */
  #written: ReadonlyMap<string, bigint> | undefined
  /** Computed when two calls are equally likely. */
  #reach: Map<number, number> | undefined
  readonly #seenRevisions: SeenRevisions
  readonly #isForeign: (key: string, type: Change["type"]) => boolean
  readonly #leases: LeaseKeys

  constructor(
    timeline: Timeline,
    calls: Calls,
    seenRevisions: SeenRevisions,
    isForeign: ((key: string, type: Change["type"]) => boolean) | undefined
  ) {
    this.#timeline = timeline
    this.#unknown = new Set(calls.unknown)
    this.#notApplied = new Set(calls.notApplied)
    this.#index = new CallIndex(calls.calls, [...calls.unknown, ...calls.notApplied])
    this.#seenRevisions = seenRevisions
    this.#isForeign = isForeign ?? (() => false)
    this.#leases = new LeaseKeys(timeline, calls.all)
  }

  /** Attributes the changes of a revision. Call it for each revision in order. */
  attribute(revision: bigint, withResponse: ReadonlyArray<CallWithResponse>): Attribution {
    const steps = this.#timeline.stepsAt(revision)
    const claims = new Map<string, History.OpCall>()
    // Calls that delete ranges come last: the keys left for them depend on the other calls.
    const writers = withResponse.toSorted((a, b) => rangesOf(a.call).length - rangesOf(b.call).length)
    const violations = writers.flatMap(({ call, response }) =>
      this.#claim(steps, call, call.request.op, response, claims)
    )
    const left = steps.filter((step) =>
      !claims.has(step.key) && !this.#isForeign(step.key, step.after === undefined ? "delete" : "put")
    )
    // The end of a lease has a revision of its own.
    const lease = claims.size > 0 ? undefined : this.#leases.endedBy(steps, this.#seenRevisions.of(revision)?.at.order)
    const explained = this.#explain(revision, left, { tries: maxTries })
    // If both explain the changes, prefer the end of the lease, which does not use up a call.
    const { calls: unknown, unexplained } = lease !== undefined
      ? { calls: [], unexplained: [] }
      : explained.unexplained.length === 0
      ? explained
      : this.#exchange(revision, left, explained)
    if (lease !== undefined && explained.unexplained.length > 0) this.leaseEnds.push({ lease, revision })
    this.#use({ revision, left, calls: unknown })
    violations.push(...unexplained.map((step) => this.#violationOf(step)))
    this.#leases.after(steps)
    const made = new Set([...claims.keys(), ...unknown.length === 0 ? [] : left.map((step) => step.key)])
    return { violations, unknown, made }
  }

  /** Finds the changes that the response to a call claims. */
  #claim(
    steps: ReadonlyArray<Step>,
    call: History.OpCall,
    op: Op.Op,
    response: History.OpResponse,
    claims: Map<string, History.OpCall>
  ): Array<Violation> {
    const { revision } = response
    const violation = (kind: Violation["kind"], message: string, others: ReadonlyArray<number> = []): Violation => ({
      kind,
      message: `${showCall(call)} was confirmed at revision ${revision}, ${message}`,
      records: [call.id, ...others],
      revision
    })
    if (op._tag === "Txn" && response._tag === "Txn") {
      const branch = response.succeeded ? op.then : op.else
      return response.responses.flatMap((inner, i) =>
        branch[i] === undefined ? [] : this.#claim(steps, call, branch[i], inner, claims)
      )
    }
    if (op._tag === "Put") {
      const step = steps.find(({ key }) => key === op.key)
      if (step?.after === undefined || !sameValue(step.after.value, op.value)) {
        const elsewhere = this.#revisionOf(op.key, op.value)
        const instead = step === undefined
          ? `where ${JSON.stringify(op.key)} did not change`
          : step.after === undefined
          ? `where ${JSON.stringify(op.key)} was deleted`
          : `where ${JSON.stringify(op.key)} became ${showValue(step.after.value)}`
        return [violation("LostWrite", elsewhere === undefined ? instead : `${instead}; it is at ${elsewhere}`)]
      }
      const other = claims.get(op.key)
      if (other !== undefined) {
        return [violation("ClaimedTwice", `and so was ${showCall(other)}`, [other.id])]
      }
      claims.set(op.key, call)
      return []
    }
    if (op._tag === "Delete" && response._tag === "Delete" && response.deleted > 0) {
      const deleted = steps.filter((step) => step.after === undefined && KeyRange.contains(op.range, step.key))
      if (deleted.length < response.deleted) {
        return [
          violation("LostWrite", `with ${response.deleted} deleted keys, and the store deleted ${deleted.length}`)
        ]
      }
      this.#claimDeletes(deleted, response, claims, call)
    }
    return []
  }

  /** If more keys were deleted than claimed, leaves those to other calls that other calls may have deleted. */
  #claimDeletes(
    deleted: ReadonlyArray<Step>,
    response: Extract<History.OpResponse, { readonly _tag: "Delete" }>,
    claims: Map<string, History.OpCall>,
    call: History.OpCall
  ): void {
    const reported = new Set(response.previous.map((row) => row.key))
    const rank = (step: Step) => reported.has(step.key) ? 0 : this.#mayBeUnknown(step) ? 2 : 1
    const free = deleted.filter((step) => !claims.has(step.key))
    const claimed = free.length === response.deleted ? free : free.toSorted((a, b) => rank(a) - rank(b))
    for (const step of claimed.slice(0, response.deleted)) claims.set(step.key, call)
  }

  #mayBeUnknown(step: Step): boolean {
    return this.#index.of(step).some((call) => this.#unknown.has(call) && !this.applied.has(call.id))
  }

  #revisionOf(key: string, value: Value): bigint | undefined {
    this.#written ??= firstRevisions(this.#timeline)
    return this.#written.get(putKey(key, value))
  }

  /** Finds calls of unknown outcome that together explain the changes, each of them without further writes. */
  #explain(
    revision: bigint,
    left: ReadonlyArray<Step>,
    budget: { tries: number }
  ): Explained {
    const [first] = left
    const steps = new Map(left.map((step) => [step.key, step]))
    let best = { calls: [] as ReadonlyArray<History.OpCall>, unexplained: left }
    if (first === undefined) return best
    const possible = this.#index.of(first)
      .filter((call) => this.#unknown.has(call) && !this.applied.has(call.id) && !this.#isTooEarly(call, revision))
      .flatMap((call) => this.#writesAt(revision, call).map((writes) => ({ call, writes })))
      .filter(({ writes }) => areAmong(steps, writes) && writes.some((write) => write.key === first.key))
      // Prefer one call to several, then calls with more conditions, which are applicable at fewer revisions, then calls that
      // explain fewer changes of the whole history, because the others may be needed elsewhere.
      .sort((a, b) =>
        b.writes.length - a.writes.length || conditionsOf(b.call) - conditionsOf(a.call) ||
        this.#reachOf(a.call) - this.#reachOf(b.call)
      )
    for (const { call, writes } of possible) {
      if (budget.tries-- <= 0) return best
      const made = new Set(writes.map((write) => write.key))
      this.applied.add(call.id)
      const rest = this.#explain(revision, left.filter((step) => !made.has(step.key)), budget)
      this.applied.delete(call.id)
      if (rest.unexplained.length < best.unexplained.length) {
        best = { calls: [call, ...rest.calls], unexplained: rest.unexplained }
      }
      if (best.unexplained.length === 0) return best
    }
    // A change without a maker must not hide the makers of the rest. With too many changes this would take too long.
    if (left.length > maxLeft) return best
    const others = this.#explain(revision, left.slice(1), budget)
    return others.unexplained.length + 1 < best.unexplained.length
      ? { calls: others.calls, unexplained: [first, ...others.unexplained] }
      : best
  }

  /** Notes that the calls explain the changes. */
  #use(explanation: Explanation): void {
    for (const { id } of explanation.calls) {
      this.applied.add(id)
      this.#explanations.set(id, explanation)
    }
  }

  #release({ calls }: Explanation): void {
    for (const { id } of calls) {
      this.applied.delete(id)
      this.#explanations.delete(id)
    }
  }

  /**
   * Explains changes with a call that explains an earlier revision, if others can explain that one. Which of several calls
   * was applied first may show only later.
   */
  #exchange(revision: bigint, left: ReadonlyArray<Step>, found: Explained): Explained {
    for (const { id } of new Set(found.unexplained.flatMap((step) => this.#index.of(step)))) {
      const earlier = this.#explanations.get(id)
      if (earlier === undefined) continue
      this.#release(earlier)
      // Used for the present revision, so the earlier one must do without it.
      this.applied.add(id)
      const others = this.#explain(earlier.revision, earlier.left, { tries: maxTries })
      this.applied.delete(id)
      if (others.unexplained.length === 0) {
        this.#use({ ...earlier, calls: others.calls })
        const better = this.#explain(revision, left, { tries: maxTries })
        if (better.unexplained.length === 0) return better
        this.#release({ ...earlier, calls: others.calls })
      }
      this.#use(earlier)
    }
    return found
  }

  /** How many changes of the history the call could explain. */
  #reachOf(call: History.OpCall): number {
    if (this.#reach === undefined) {
      const reach = this.#reach = new Map<number, number>()
      for (const step of this.#timeline.stepsAfter(this.#timeline.first)) {
        for (const { id } of this.#index.of(step)) reach.set(id, (reach.get(id) ?? 0) + 1)
      }
    }
    return this.#reach.get(call.id) ?? 0
  }

  #isTooEarly(call: History.OpCall, revision: bigint): boolean {
    const floor = this.#seenRevisions.before(call)
    return floor !== undefined && floor.revision >= revision
  }

  /** The possible writes of the call at a revision. Its conditions see the store before the revision. */
  #writesAt(revision: bigint, call: History.OpCall): ReadonlyArray<ReadonlyArray<Write>> {
    const store = {
      view: this.#timeline.at(revision - 1n),
      at: (past: bigint) => this.#timeline.at(past),
      writeRevision: revision
    }
    return execute(store, call.request.op, undefined).map((effect) => effect._tag === "Done" ? effect.writes : [])
  }

  /** The violation of a change without a maker. */
  #violationOf(step: Step): Violation {
    const what = step.after === undefined
      ? `${JSON.stringify(step.key)} was deleted`
      : `${JSON.stringify(step.key)} became ${showValue(step.after.value)}`
    const violation = (kind: Violation["kind"], message: string, calls: ReadonlyArray<History.OpCall>): Violation => ({
      kind,
      message: `at revision ${step.revision} ${what}, ${message}`,
      records: calls.map((call) => call.id),
      revision: step.revision
    })
    const candidates = this.#index.of(step)
    const notApplied = candidates.filter((call) => this.#notApplied.has(call))
    const withResponse = candidates.filter((call) => responseOf(call) !== undefined)
    const used = candidates.filter((call) => this.applied.has(call.id))
    const open = candidates.filter((call) => this.#unknown.has(call) && !this.applied.has(call.id))
    const early = open.filter((call) => this.#isTooEarly(call, step.revision))
    const partial = open.filter((call) => !early.includes(call))
    if (partial.length > 0) {
      return violation("SplitWrite", `but not all writes of ${names(partial)} were applied`, partial)
    }
    if (notApplied.length > 0) {
      return violation("RejectedWriteApplied", `and ${names(notApplied)} was reported as not applied`, notApplied)
    }
    const known = [...withResponse, ...used]
    if (known.length > 0 && step.after !== undefined) {
      return violation("DuplicateWrite", `and ${names(known)} was applied at another revision`, known)
    }
    return early.length > 0
      ? violation("PhantomWrite", `and was seen before ${names(early)} was invoked`, early)
      : violation("PhantomWrite", "and no call requested it", [])
  }
}

/** How many calls are tried for the changes of a revision. */
const maxTries = 1000

const maxLeft = 200

const names = (calls: ReadonlyArray<History.OpCall>): string => calls.map(showCall).join(" and ")

const firstRevisions = (timeline: Timeline): ReadonlyMap<string, bigint> => {
  const written = new Map<string, bigint>()
  for (const { after, key, revision } of timeline.stepsAfter(timeline.first)) {
    if (after === undefined) continue
    const put = putKey(key, after.value)
    if (!written.has(put)) written.set(put, revision)
  }
  return written
}

const conditionsOf = ({ request: { op } }: History.OpCall): number => op._tag === "Txn" ? op.if.length : 0

/** Whether all writes are among the changes. */
const areAmong = (steps: ReadonlyMap<string, Step>, writes: ReadonlyArray<Write>): boolean =>
  writes.every((write) => {
    const step = steps.get(write.key)
    return step !== undefined && isWrite(step, write)
  })

/** Whether a change is the given write. */
export const isWrite = (step: Step, { key, row }: Write): boolean =>
  step.key === key &&
  (row === undefined || step.after === undefined ? row === step.after : sameRow(row, step.after))
