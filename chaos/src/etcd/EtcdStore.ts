/**
 * A cluster of three etcd servers as the store under test. `etcdctl` reads and changes it.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import { type EtcdBinaries, EtcdCluster, TcpProxy } from "@effect-kv/test-suite/verification"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Scope } from "effect/Scope"
import * as Http from "node:http"
import type { Outcome } from "../AppliedFault.ts"
import { deadlineOf } from "../deadlines.ts"
import type { Fault } from "../Fault.ts"
import type { ClientOptions, Field, Opened, Store } from "../Store.ts"
import * as locks from "../work/locks.ts"
import * as faults from "./memberFaults.ts"
import type { Servers } from "./Servers.ts"

/** The server metric for the number of watches. */
const watchMetric = "etcd_debugging_mvcc_watcher_total"

/**
 * The long-lived watches of a client: its watch plans, its views, its observer of the election, its wait for the last latch,
 * and those of its long-lived temporary key and its member, with some margin.
 */
const watchesOfClient = 17

export const make = Effect.fnUntraced(function*(
  version: EtcdBinaries.Version
): Effect.fn.Return<Store, EtcdCluster.EtcdClusterError | EtcdBinaries.EtcdBinariesMissing, Scope> {
  const cluster = yield* EtcdCluster.make({ version, members: 3 })
  const servers: Servers = { cluster, slots: [...cluster.members] }
  const { etcdctl } = cluster
  const store: Store = {
    backend: "etcd",
    title: `etcd ${version}`,
    endpoints: cluster.endpoints,
    openClient,
    revision: cluster.revision,
    record: cluster.watchFrom,
    keys: (prefix) => Effect.map(etcdctl(["get", prefix, "--prefix", "--keys-only"]), (text) => text.split("\n")),
    leases: Effect.map(
      etcdctl(["lease", "list"]),
      (text) => text.split("\n").filter((line) => /^[0-9a-f]+$/.test(line)).map((line) => BigInt(`0x${line}`))
    ),
    revoke: (lease) => Effect.asVoid(etcdctl(["lease", "revoke", lease.toString(16)])),
    oldest: Effect.fnUntraced(function*(prefix: string) {
      const oldest = ["get", prefix, "--prefix", "--sort-by=CREATE", "--order=ASCEND", "--limit=1", "-w=fields"]
      const fields = yield* etcdctl(oldest)
      const [, createRevision] = /"CreateRevision" : (\d+)/.exec(fields) ?? []
      const [, lease] = /"Lease" : (\d+)/.exec(fields) ?? []
      const [, value] = /"Value" : "(.*)"/.exec(fields) ?? []
      return createRevision === undefined || lease === undefined || value === undefined
        ? undefined
        : { createRevision: BigInt(createRevision), lease: BigInt(lease), value }
    }),
    compact: cluster.compact,
    compacted: Effect.succeed(0n),
    watches: Effect.map(
      Effect.flatMap(cluster.currentMembers, (members) => Effect.forEach(members, (member) => cluster.metrics(member))),
      (all) => all.reduce((sum, metrics) => sum + metrics.get(watchMetric), 0)
    ),
    // The recording of the history is one watch.
    watchesOf: (clients) => clients * watchesOfClient + 1,
    left: Effect.succeed([]),
    broken: () => Effect.succeed([]),
    probes: servers.slots.map((_, slot) => Effect.suspend(() => get(`${servers.slots[slot]!.endpoint}/health`))),
    breakServers: (fault, field) => breakServers(servers, field, fault),
    evictable: (prefix) => [locks.lockNames(prefix)[0]],
    isRequest
  }
  return store
})

const openClient = ({ batching, links, name }: ClientOptions) => {
  const layer = EtcdLayer.layer({
    endpoints: links.map((proxy) => proxy.endpoint),
    deadline: deadlineOf(name),
    ...(batching ? {} : { batching: false })
  })
  // A fresh layer, because a layer that is built twice in one scope is shared.
  return Effect.map(
    Effect.suspend(() => Layer.build(Layer.fresh(layer))),
    (context): Opened => ({ kv: Context.get(context, Kv.Kv) })
  )
}

const breakServers = (
  servers: Servers,
  field: Field,
  fault: Fault
): Effect.Effect<Outcome | void, Error> => {
  switch (fault.kind) {
    case "kill-member":
      return faults.killMember(servers, fault)
    case "kill-leader":
      return faults.killLeader(servers, fault)
    case "kill-majority":
      return faults.killMajority(servers, fault)
    case "outage":
      return faults.outage(servers, fault)
    case "stop-member":
      return faults.stopMember(servers, fault)
    case "pause-member":
      return faults.pauseMember(servers, fault)
    case "pause-leader":
      return faults.pauseLeader(servers, fault)
    case "move-leader":
      return faults.moveLeader(servers)
    case "defragment":
      return faults.defragment(servers)
    case "replace-member":
      return faults.replaceMember(servers, field, fault)
    default:
      return Effect.die(new Error(`etcd has no fault ${fault.kind}`))
  }
}

/**
 * Whether data from a client contains a request: neither only a connection preface, whose loss would prevent any use of
 * the connection, nor only HTTP/2 control frames such as pings and window updates.
 */
const isRequest = (chunk: Uint8Array): boolean => chunk.length > longestControlFrames && !beginsConnection(chunk)

/** The size of two pings, or of a ping and two window updates. */
const longestControlFrames = 43

const beginsConnection = (chunk: Uint8Array): boolean =>
  chunk.length < 100 && TcpProxy.contains("PRI * HTTP/2.0")(chunk)

/** Ends when the request has, whatever the response. On a connection of its own, because sockets are counted. */
const get = (url: string): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const request = Http.get(url, { agent: false, headers: { connection: "close" } }, (response) => response.resume())
    request.on("error", () => {})
    request.on("close", () => resume(Effect.void))
    return Effect.sync(() => request.destroy())
  })
