/**
 * The keys attached to each lease, by revision. The end of a lease deletes them.
 */
import * as History from "../history/History.ts"
import type { Step, Timeline } from "./Timeline.ts"

export class LeaseKeys {
  readonly #keys = new Map<bigint, Set<string>>()
  /** For each lease, the last revision at which a key was attached to it. */
  readonly #lastUse = new Map<bigint, bigint>()

  /** For each lease, the invocation of the last call that found it alive. */
  readonly #lastAlive = new Map<bigint, number>()
  /** How often a lease with this id was granted or may have been granted. */
  readonly #grants = new Map<bigint, number>()

  constructor(timeline: Timeline, calls: ReadonlyArray<History.Call>) {
    for (const { after, revision } of timeline.stepsAfter(timeline.first)) {
      if (after !== undefined && after.lease !== 0n) this.#lastUse.set(after.lease, revision)
    }
    for (const call of calls) {
      const { invoked, outcome, request } = call
      const id = request._tag === "LeaseGrant" ? grantedId(call) : undefined
      if (id !== undefined) this.#grants.set(id, (this.#grants.get(id) ?? 0) + 1)
      if (outcome._tag !== "Responded" || request._tag === "Execute" || request._tag === "LeaseGrant") continue
      // A retried revocation whose first response was lost finds that the lease has ended, whatever ended it.
      if (request._tag === "LeaseRevoke") continue
      this.#lastAlive.set(request.id, Math.max(this.#lastAlive.get(request.id) ?? -1, invoked.order))
    }
  }

  /**
   * The lease whose end explains these changes: they delete all its keys, the lease is not used later, and no call found it
   * alive later, unless the id was granted again.
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

  /** Call this for each revision in order, with its changes. */
  after(steps: ReadonlyArray<Step>): void {
    for (const { after, before, key } of steps) {
      if (before !== undefined) this.#keys.get(before.lease)?.delete(key)
      if (after === undefined || after.lease === 0n) continue
      const keys = this.#keys.get(after.lease) ?? new Set()
      this.#keys.set(after.lease, keys.add(key))
    }
  }
}

/** The id of the lease that was granted or may have been granted. */
const grantedId = (call: History.Call): bigint | undefined => {
  const { outcome, request } = call
  if (outcome._tag === "Responded") return outcome.response._tag === "Lease" ? outcome.response.id : undefined
  return request._tag === "LeaseGrant" && History.isUnknown(call) ? request.id : undefined
}
