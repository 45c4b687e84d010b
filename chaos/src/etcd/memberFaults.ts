/**
 * Faults of the servers of etcd. Each returns when the cluster is complete again.
 */
import { EtcdCluster } from "@effect-kv/test-suite/verification"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { Outcome } from "../AppliedFault.ts"
import * as DeposedLeader from "../DeposedLeader.ts"
import type { Fault } from "../Fault.ts"
import type { Field } from "../Store.ts"
import type { Servers } from "./Servers.ts"

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
export const killMember = (servers: Servers, { millis, slot }: Fault): ServerFault =>
  Effect.suspend(() => away([servers.slots[slot]!], millis, kill))

export const killLeader = (servers: Servers, { millis }: Fault): ServerFault =>
  Effect.flatMap(servers.cluster.leader, (leader) => away([leader], millis, kill))

/** Kills two of three members, so there is no quorum. */
export const killMajority = (servers: Servers, { millis, slot }: Fault): ServerFault =>
  Effect.suspend(() => away(servers.slots.filter((_, i) => i !== slot), millis, kill))

/** Kills all members at once. */
export const outage = (servers: Servers, { millis }: Fault): ServerFault =>
  Effect.suspend(() => away(servers.slots, millis, kill))

/** Stops a member in order (SIGTERM): a leader hands over first. */
export const stopMember = (servers: Servers, { millis, slot }: Fault): ServerFault =>
  Effect.suspend(() => away([servers.slots[slot]!], millis, (member) => member.stop))

const paused = (servers: Servers, member: EtcdCluster.Member, millis: number): ServerFault => {
  const pause = Effect.acquireUseRelease(
    member.pause,
    () => Effect.sleep(millis),
    () => member.resume
  )
  return Effect.andThen(mustRun(member), DeposedLeader.observe(servers.cluster, member, pause))
}

/** Suspends a member (SIGSTOP) and resumes it (SIGCONT). */
export const pauseMember = (servers: Servers, { millis, slot }: Fault): ServerFault =>
  Effect.suspend(() => paused(servers, servers.slots[slot]!, millis))

export const pauseLeader = (servers: Servers, { millis }: Fault): ServerFault =>
  Effect.flatMap(servers.cluster.leader, (leader) => paused(servers, leader, millis))

/** Retried, because the other member may not be ready to lead yet. */
export const moveLeader = (servers: Servers): ServerFault =>
  Effect.asVoid(
    Effect.retry(Effect.suspend(() => servers.cluster.moveLeader()), {
      schedule: Schedule.spaced("300 millis"),
      times: 10
    })
  )

export const defragment = (servers: Servers): ServerFault => servers.cluster.defragment

/** Replaces a member by a new, empty one. The clients reach it at the address of the old one. */
export const replaceMember = Effect.fnUntraced(function*(servers: Servers, { links }: Field, { slot }: Fault) {
  const old = servers.slots[slot]!
  const added = yield* servers.cluster.memberAdd
  yield* servers.cluster.memberRemove(old)
  servers.slots[slot] = added
  for (const ofClient of links) {
    yield* ofClient[slot]!.retarget(added.endpoint)
    yield* ofClient[slot]!.cut
  }
})
