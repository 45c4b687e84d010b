/**
 * The decision of a client about a cron's next step, from what it has seen of the store and from its clock.
 *
 * Only the transaction that starts a run is binding. A client that decides by outdated knowledge is rejected by it.
 */
import type { Record } from "./model.ts"
import type { Ticks } from "./ticks.ts"

export interface Policy {
  readonly missed: "latest" | "all" | "skip"
  readonly onCrash: "retry" | "skip"
}

export type Decision =
  /** Put the first record, with the time after which ticks count. */
  | { readonly _tag: "Register" }
  | { readonly _tag: "Start"; readonly tick: number; readonly attempts: number }
  /** Wait for a change, or until that time. */
  | { readonly _tag: "Wait"; readonly until: number | undefined }

/** How long after its time a tick is not yet missed, in milliseconds. */
export const graceMillis = 10_000

/** What a client has seen. `isRunning`: the key of a run exists. */
export interface Seen {
  readonly record: Record | undefined
  readonly isRunning: boolean
}

export const decide = ({ isRunning, record }: Seen, now: number, ticks: Ticks, policy: Policy): Decision => {
  if (isRunning) return untilChange
  if (record === undefined) return { _tag: "Register" }
  // A record of `forKey` has no tick, so every tick counts.
  const tick = record.tick === undefined ? 0 : Date.parse(record.tick)
  const isBroken = record.state === "Running" || record.state === "Interrupted"
  if (isBroken && policy.onCrash === "retry") return { _tag: "Start", tick, attempts: record.attempts + 1 }
  const due = dueAfter(tick, now, ticks, policy)
  return due === undefined
    ? { _tag: "Wait", until: ticks.next(Math.max(tick, now)) }
    : { _tag: "Start", tick: due, attempts: 1 }
}

const untilChange: Decision = { _tag: "Wait", until: undefined }

const dueAfter = (tick: number, now: number, ticks: Ticks, { missed }: Policy): number | undefined => {
  if (missed === "all") {
    const first = ticks.next(tick)
    return first <= now ? first : undefined
  }
  const last = ticks.last(tick, now)
  return last !== undefined && missed === "skip" && now - last > graceMillis ? undefined : last
}
