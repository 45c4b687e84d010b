/**
 * Applies the faults of a schedule and records what was done and when.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { AppliedFault, Outcome } from "./AppliedFault.ts"
import type { Entry, Fault } from "./Fault.ts"
import * as Faults from "./Fault.ts"
import * as clients from "./faults/clients.ts"
import * as compaction from "./faults/compaction.ts"
import * as links from "./faults/links.ts"
import type { Recording } from "./Store.ts"
import type { Testbed } from "./Testbed.ts"

/** What faults need to know about the round they happen in. */
export interface Target {
  readonly testbed: Testbed
  readonly history: Recording
  /** Locks that the workers use. */
  readonly locks: ReadonlyArray<string>
}

/** Applies the entries in order. Each starts at its time, but not before the previous one has ended. */
export const run = Effect.fnUntraced(function*(
  schedule: ReadonlyArray<Entry>,
  target: Target,
  progress: (text: string) => Effect.Effect<void>
) {
  const appliedFaults: Array<AppliedFault> = []
  const begin = yield* Clock.monotonicTimeNanos
  for (const { at, faults } of schedule) {
    const elapsed = Number((yield* Clock.monotonicTimeNanos) - begin) / 1e6
    yield* Effect.sleep(Math.max(0, at - elapsed))
    yield* progress(faults.map(Faults.describe).join(" with "))
    appliedFaults.push(...yield* Effect.forEach(faults, (fault) => apply(fault, target), { concurrency: "unbounded" }))
  }
  return appliedFaults
})

const apply = Effect.fnUntraced(function*(fault: Fault, target: Target): Effect.fn.Return<AppliedFault> {
  const began = yield* Clock.monotonicTimeNanos
  const exit = yield* Effect.exit(execute(fault, target))
  const ended = yield* Clock.monotonicTimeNanos
  return Exit.isFailure(exit)
    ? { fault, began, ended, healed: ended, problem: Cause.pretty(exit.cause) }
    : { fault, began, ...exit.value, ended: exit.value?.ended ?? ended, healed: exit.value?.healed ?? ended }
})

const execute = (fault: Fault, { history, locks, testbed }: Target): Effect.Effect<Outcome | void, Error> => {
  switch (fault.kind) {
    case "compact":
      return compaction.compact(testbed, fault, history)
    case "cut":
      return links.cut(testbed, fault)
    case "cut-before-forwarding":
      return links.cutBeforeForwarding(testbed, fault)
    case "cut-after-forwarding":
      return links.cutAfterForwarding(testbed, fault)
    case "cut-mid-frame":
      return links.cutMidFrame(testbed, fault)
    case "delay":
      return links.delay(testbed, fault)
    case "throttle":
      return links.throttle(testbed, fault)
    case "blackhole":
    case "partition":
      return links.blackhole(testbed, fault)
    case "lose-bytes":
      return links.loseBytes(testbed, fault)
    case "lose-responses":
      return links.loseResponses(testbed, fault)
    case "half-open":
      return links.halfOpen(testbed, fault)
    case "stall":
      return clients.stall(fault)
    case "evict":
      return clients.evict(testbed, locks)
    default:
      return testbed.store.breakServers(fault, testbed, history)
  }
}
