/**
 * What members say about themselves: versions, a missing leader, alarms, a database that is nearly full.
 */
import type * as EtcdStatus from "@effect-kv/etcd/EtcdStatus"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { type Finding, ok, problem, warning } from "./finding.ts"
import * as reaching from "./reaching.ts"

/** The findings about all endpoints. */
export const findings = (
  endpoints: ReadonlyArray<EtcdStatus.EndpointStatus>,
  configured: reaching.Configured,
  now: number
): ReadonlyArray<Finding> => [
  ...endpoints.map((each) =>
    Result.match(each.status, {
      onFailure: (error) =>
        error.reason._tag === "Unauthenticated" || error.reason._tag === "PermissionDenied"
          ? ok("endpoint", `${each.endpoint} responds`)
          : reaching.finding(each.endpoint, error.message, configured, now),
      onSuccess: (status) => ok("endpoint", responds(each, status))
    })
  ),
  ...ofCluster(
    endpoints.flatMap(({ endpoint, status }) => Result.isSuccess(status) ? [{ endpoint, status: status.success }] : [])
  )
]

const responds = ({ endpoint, took }: EtcdStatus.EndpointStatus, status: EtcdStatus.Status): string => {
  const role = status.isLearner ? ", a learner" : Option.contains(status.leader, status.memberId) ? ", the leader" : ""
  return `${endpoint} responds after ${Math.round(Duration.toMillis(took))} ms: etcd ${status.version}${role}`
}

interface Member {
  readonly endpoint: string
  readonly status: EtcdStatus.Status
}

const ofCluster = (members: ReadonlyArray<Member>): ReadonlyArray<Finding> => [
  ...members.flatMap(({ endpoint, status }) => version(endpoint, status.version)),
  ...noLeader(members),
  ...otherClusters(members),
  ...alarms(members),
  ...members.flatMap(({ endpoint, status }) => learner(endpoint, status)),
  ...members.flatMap(({ endpoint, status }) => nearlyFull(endpoint, status))
]

/** What is known of the version. */
export const version = (endpoint: string, text: string): ReadonlyArray<Finding> => {
  const [, major, minor, patch] = (/^(\d+)\.(\d+)\.(\d+)/.exec(text) ?? []).map(Number)
  if (major === undefined || minor === undefined || patch === undefined || major !== 3) return []
  if (minor < 4) {
    return [problem("unsupported-version", `${endpoint} runs etcd ${text}, which effect-kv does not support`, upgrade)]
  }
  if (minor === 4) return [warning("old-version", `${endpoint} runs etcd ${text}, which gets no more fixes`, upgrade)]
  if (minor === 5 && patch < 3) {
    return [problem("corrupting-version", `${endpoint} runs etcd ${text}, which can corrupt its data`, upgrade)]
  }
  if (minor === 5 && patch < 8) {
    return [
      warning(
        "old-version",
        `${endpoint} runs etcd ${text}, whose progress notifications may overtake events, so quiet watches end with ` +
          "Compacted after an outage",
        upgrade
      )
    ]
  }
  return []
}

const upgrade = "Upgrade etcd, one minor version after the other: 3.5, then 3.6, then 3.7."

const noLeader = (members: ReadonlyArray<Member>): ReadonlyArray<Finding> => {
  const lost = members.filter(({ status }) => Option.isNone(status.leader)).map(({ endpoint }) => endpoint)
  return lost.length === 0 ? [] : [
    problem(
      "no-leader",
      `${lost.join(" and ")} ${lost.length === 1 ? "knows" : "know"} no leader: the cluster has no quorum, or ` +
        `${lost.length === 1 ? "it is" : "they are"} cut off from it`,
      "Start the members that are down until a majority runs, and check the network between the members (port 2380)."
    )
  ]
}

const otherClusters = (members: ReadonlyArray<Member>): ReadonlyArray<Finding> => {
  const clusters = Map.groupBy(members, ({ status }) => status.clusterId)
  return clusters.size < 2 ? [] : [
    problem(
      "several-clusters",
      `the endpoints belong to ${clusters.size} clusters: ${
        [...clusters.values()].map((group) => group.map(({ endpoint }) => endpoint).join(", ")).join(" | ")
      }`,
      "List the endpoints of one cluster only. Locks of two clusters do not exclude each other."
    )
  ]
}

/** Every member reports the alarms of all, so each is named once. */
const alarms = (members: ReadonlyArray<Member>): ReadonlyArray<Finding> => {
  const kinds = new Map(
    members.flatMap(({ status }) => status.alarms).map((
      { kind, memberId }
    ) => [`${kind} ${memberId}`, { kind, memberId }])
  )
  return [...kinds.values()].map(({ kind, memberId }) =>
    kind === "NOSPACE"
      ? problem(
        "alarm-nospace",
        `member ${
          memberId.toString(16)
        } has the alarm NOSPACE: its database has reached the quota, and the cluster rejects writes`,
        "Compact the history, run 'etcdctl defrag' on each member, then 'etcdctl alarm disarm'. To prevent it: " +
          "--auto-compaction-retention, and a larger --quota-backend-bytes."
      )
      : kind === "CORRUPT"
      ? problem(
        "alarm-corrupt",
        `member ${
          memberId.toString(16)
        } has the alarm CORRUPT: the data of the members differs, and the cluster rejects requests`,
        "Replace the member by an empty one ('etcdctl member remove' and 'add'), or restore a snapshot."
      )
      : problem("alarm", `member ${memberId.toString(16)} has the alarm ${kind}`, "See 'etcdctl alarm list'.")
  )
}

const learner = (endpoint: string, { isLearner }: EtcdStatus.Status): ReadonlyArray<Finding> =>
  isLearner
    ? [warning("learner", `${endpoint} is a learner, which serves neither locks nor writes`, "Take it out of the URL.")]
    : []

const nearlyFull = (endpoint: string, { alarms, dbSize, dbSizeQuota }: EtcdStatus.Status): ReadonlyArray<Finding> => {
  const quota = Option.getOrUndefined(dbSizeQuota)
  if (quota === undefined || alarms.length > 0 || dbSize < 0.8 * quota) return []
  return [
    warning(
      "nearly-full",
      `the database of ${endpoint} uses ${
        Math.floor((100 * dbSize) / quota)
      } % of its quota; at 100 % it rejects writes`,
      "Compact and defragment, or raise --quota-backend-bytes."
    )
  ]
}
