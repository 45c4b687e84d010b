/**
 * Carries out a schedule, and keeps a record of what was done and when.
 */
import type { EtcdCluster } from "@effect-kv/test-suite/verification"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { AppliedFault, Outcome } from "./AppliedFault.ts"
import type { Entry, Fault } from "./Fault.ts"
import * as Faults from "./Fault.ts"
import * as clients from "./faults/clients.ts"
import * as links from "./faults/links.ts"
import * as servers from "./faults/servers.ts"
import type { Stage } from "./Stage.ts"

/** What faults need to know of the round they happen in. */
export interface Target {
  readonly stage: Stage
  readonly history: EtcdCluster.Recording
  /** A lock that is in use. */
  readonly lock: string
}

/** Carries out the entries one after the other, each when its time has come and the one before is over. */
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

const execute = (fault: Fault, { history, lock, stage }: Target): Effect.Effect<Outcome | void, Error> => {
  switch (fault.kind) {
    case "kill-member":
      return servers.killMember(stage, fault)
    case "kill-leader":
      return servers.killLeader(stage, fault)
    case "kill-majority":
      return servers.killMajority(stage, fault)
    case "outage":
      return servers.outage(stage, fault)
    case "stop-member":
      return servers.stopMember(stage, fault)
    case "pause-member":
      return servers.pauseMember(stage, fault)
    case "pause-leader":
      return servers.pauseLeader(stage, fault)
    case "move-leader":
      return servers.moveLeader(stage)
    case "compact":
      return servers.compact(stage, fault, history)
    case "defragment":
      return servers.defragment(stage)
    case "replace-member":
      return servers.replaceMember(stage, fault)
    case "cut":
      return links.cut(stage, fault)
    case "cut-before-forwarding":
      return links.cutBeforeForwarding(stage, fault)
    case "cut-after-forwarding":
      return links.cutAfterForwarding(stage, fault)
    case "cut-mid-frame":
      return links.cutMidFrame(stage, fault)
    case "delay":
      return links.delay(stage, fault)
    case "throttle":
      return links.throttle(stage, fault)
    case "blackhole":
    case "partition":
      return links.blackhole(stage, fault)
    case "lose-bytes":
      return links.loseBytes(stage, fault)
    case "lose-answers":
      return links.loseAnswers(stage, fault)
    case "half-open":
      return links.halfOpen(stage, fault)
    case "stall":
      return clients.stall(fault)
    case "evict":
      return clients.evict(stage, lock)
  }
}
