/**
 * The keys attached to each lease, revision by revision: what the end of a lease deletes.
 */
import * as History from "../history/History.ts"
import type { Step, Timeline } from "./Timeline.ts"

export class LeaseKeys {
  readonly #keys = new Map<bigint, Set<string>>()
  /** Of each lease, the last revision at which a key was attached to it. */
  readonly #lastUse = new Map<bigint, bigint>()

  /** Of each lease, the place in the order of the last call that found it alive, when that was invoked. */
  readonly #lastAlive = new Map<bigint, number>()
  /** How often a lease of an id was granted, or may have been. */
  readonly #grants = new Map<bigint, number>()

  constructor(timeline: Timeline, calls: ReadonlyArray<History.Call>) {
    for (const { after, revision } of timeline.stepsAfter(timeline.first)) {
      if (after !== undefined && after.lease !== 0n) this.#lastUse.set(after.lease, revision)
    }
    for (const call of calls) {
      const { invoked, outcome, request } = call
      const id = request._tag === "LeaseGrant" ? grantedId(call) : undefined
      if (id !== undefined) this.#grants.set(id, (this.#grants.get(id) ?? 0) + 1)
      if (outcome._tag !== "Answered" || request._tag === "Execute" || request._tag === "LeaseGrant") continue
      // A revocation whose first answer was lost is told that the lease is gone, whoever ended it.
      if (request._tag === "LeaseRevoke") continue
      this.#lastAlive.set(request.id, Math.max(this.#lastAlive.get(request.id) ?? -1, invoked.order))
    }
  }

  /**
   * The lease whose end does what the changes are, which were seen at a moment: all its keys are deleted, it is not used any
   * more, and nobody found it alive later; unless another of its id was granted.
   */
  endedBy(steps: ReadonlyArray<Step>, seenAt: number | undefined): bigint | undefined {
    const lease = steps[0]?.before?.lease ?? 0n
    const keys = this.#keys.get(lease)
    const isEnd = lease !== 0n && keys !== undefined && keys.size === steps.length &&
      steps.every((step) => step.after === undefined && keys.has(step.key)) &&
      ((this.#grants.get(lease) ?? 0) > 1 || this.#lastUse.get(lease)! < steps[0]!.revision &&
          (seenAt === undefined || (this.#lastAlive.get(lease) ?? -1) < seenAt))
    return isEnd ? lease : undefined
  }

  /** To be called for each revision in turn, with its changes. */
  after(steps: ReadonlyArray<Step>): void {
    for (const { after, before, key } of steps) {
      if (before !== undefined) this.#keys.get(before.lease)?.delete(key)
      if (after === undefined || after.lease === 0n) continue
      const keys = this.#keys.get(after.lease) ?? new Set()
      this.#keys.set(after.lease, keys.add(key))
    }
  }
}

/** The id of the lease that was granted, or that may have been. */
const grantedId = (call: History.Call): bigint | undefined => {
  const { outcome, request } = call
  if (outcome._tag === "Answered") return outcome.answer._tag === "Lease" ? outcome.answer.id : undefined
  return request._tag === "LeaseGrant" && History.isUnknown(call) ? request.id : undefined
}
