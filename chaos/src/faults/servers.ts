/**
 * Faults of the servers. Each returns when the cluster is complete again.
 */
import { EtcdCluster } from "@effect-kv/test-suite/verification"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { Outcome } from "../AppliedFault.ts"
import * as DeposedLeader from "../DeposedLeader.ts"
import type { Fault } from "../Fault.ts"
import type { Testbed } from "../Testbed.ts"

type ServerFault = Effect.Effect<Outcome | void, EtcdCluster.EtcdClusterError>

/** A member that does not run cannot be stopped, so the fault would have no effect. */
const mustRun = (member: EtcdCluster.Member): Effect.Effect<void, EtcdCluster.EtcdClusterError> =>
  Effect.flatMap(member.pid, (pid) =>
    pid !== undefined ? Effect.void : Effect.fail(
      new EtcdCluster.EtcdClusterError({ operation: "fault", message: `${member.name} does not run` })
    ))

const away = (
  members: ReadonlyArray<EtcdCluster.Member>,
  millis: number,
  end: (member: EtcdCluster.Member) => Effect.Effect<void>
): ServerFault => {
  const moments: Array<bigint> = []
  const start = (member: EtcdCluster.Member) =>
    Effect.andThen(member.start, Effect.map(Clock.monotonicTimeNanos, (now) => moments.push(now)))
  return Effect.acquireUseRelease(
    Effect.forEach(members, (member) => Effect.andThen(mustRun(member), end(member)), {
      concurrency: "unbounded",
      discard: true
    }),
    () => Effect.sleep(millis),
    () => Effect.forEach(members, start, { concurrency: "unbounded", discard: true })
  ).pipe(Effect.map(() => ({ healed: moments[0] })))
}

const kill = (member: EtcdCluster.Member): Effect.Effect<void> => member.kill

/** Kills one member (`kill -9`). */
export const killMember = (testbed: Testbed, { millis, slot }: Fault): ServerFault =>
  Effect.suspend(() => away([testbed.slots[slot]!], millis, kill))

export const killLeader = (testbed: Testbed, { millis }: Fault): ServerFault =>
  Effect.flatMap(testbed.cluster.leader, (leader) => away([leader], millis, kill))

/** Kills two of three members, so there is no quorum. */
export const killMajority = (testbed: Testbed, { millis, slot }: Fault): ServerFault =>
  Effect.suspend(() => away(testbed.slots.filter((_, i) => i !== slot), millis, kill))

/** Kills all members at once. */
export const outage = (testbed: Testbed, { millis }: Fault): ServerFault =>
  Effect.suspend(() => away(testbed.slots, millis, kill))

/** Stops a member in order (SIGTERM): a leader hands over first. */
export const stopMember = (testbed: Testbed, { millis, slot }: Fault): ServerFault =>
  Effect.suspend(() => away([testbed.slots[slot]!], millis, (member) => member.stop))

const paused = (testbed: Testbed, member: EtcdCluster.Member, millis: number): ServerFault => {
  const pause = Effect.acquireUseRelease(
    member.pause,
    () => Effect.sleep(millis),
    () => member.resume
  )
  return Effect.andThen(mustRun(member), DeposedLeader.observe(testbed.cluster, member, pause))
}

/** Suspends a member (SIGSTOP) and resumes it (SIGCONT). */
export const pauseMember = (testbed: Testbed, { millis, slot }: Fault): ServerFault =>
  Effect.suspend(() => paused(testbed, testbed.slots[slot]!, millis))

export const pauseLeader = (testbed: Testbed, { millis }: Fault): ServerFault =>
  Effect.flatMap(testbed.cluster.leader, (leader) => paused(testbed, leader, millis))

/** Retried, because the other member may not be ready to lead yet. */
export const moveLeader = (testbed: Testbed): ServerFault =>
  Effect.asVoid(
    Effect.retry(Effect.suspend(() => testbed.cluster.moveLeader()), {
      schedule: Schedule.spaced("300 millis"),
      times: 10
    })
  )

/** How long clients are cut off before the compaction. */
const missing = "300 millis"

/**
 * Compacts the history as soon as it has been recorded, because the round is checked by it. Some clients are cut off
 * meanwhile, so their watches resume at revisions that are compacted.
 */
export const compact = Effect.fnUntraced(
  function*(testbed: Testbed, { clients }: Fault, history: EtcdCluster.Recording) {
    const links = clients.flatMap((client) => testbed.links[client]!)
    yield* Effect.acquireUseRelease(
      Effect.forEach(links, (link) => link.down),
      () => Effect.andThen(Effect.sleep(missing), compactNow(testbed, history)),
      () => Effect.forEach(links, (link) => link.heal)
    )
  }
)

const compactNow = Effect.fnUntraced(function*(testbed: Testbed, history: EtcdCluster.Recording) {
  const revision = yield* testbed.cluster.revision
  yield* history.upTo(revision)
  testbed.compactedAt = revision
  yield* testbed.cluster.compact(revision)
})

export const defragment = (testbed: Testbed): ServerFault => testbed.cluster.defragment

/** Replaces a member by a new, empty one. The clients reach it at the address of the old one. */
export const replaceMember = Effect.fnUntraced(function*(testbed: Testbed, { slot }: Fault) {
  const old = testbed.slots[slot]!
  const added = yield* testbed.cluster.memberAdd
  yield* testbed.cluster.memberRemove(old)
  testbed.slots[slot] = added
  for (const links of testbed.links) {
    yield* links[slot]!.retarget(added.endpoint)
    yield* links[slot]!.cut
  }
})
