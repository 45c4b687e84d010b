/**
 * The testbed of a run: a cluster of three members, some clients, and a proxy on each link between a client and a
 * member.
 *
 * A client reaches the members only through its proxies, whose addresses stay the same when a member is replaced.
 */
import * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import { type EtcdBinaries, EtcdCluster, TcpProxy } from "@effect-kv/test-suite/verification"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Sockets from "./Sockets.ts"

/** A running cluster. */
export type Cluster = EtcdCluster.EtcdCluster["Service"]

/** A client as opened, before its calls are recorded. */
export interface Client {
  readonly name: string
  readonly kv: Kv.Kv
  /** Opens another client on the same links. */
  readonly open: Effect.Effect<Kv.Kv, KvError, Scope.Scope>
}

/** A client's links, one to each member. */
export type Links = ReadonlyArray<TcpProxy.TcpProxy>

export interface Testbed {
  readonly cluster: Cluster
  /** The members by index. Replacing a member puts another one in its place. */
  readonly slots: Array<EtcdCluster.Member>
  /** The links by the index of the client. */
  readonly links: ReadonlyArray<Links>
  /** The connections over all links. */
  readonly sockets: Sockets.Sockets
  /** The revision of the last compaction, `0n` if there was none. */
  compactedAt: bigint
  /** Leases that the harness revoked. */
  readonly evicted: Set<bigint>
  /** Opens one client for each row of links. */
  readonly openClients: Effect.Effect<ReadonlyArray<Client>, KvError, Scope.Scope>
}

/** The options of a testbed. */
export interface Options {
  readonly version: EtcdBinaries.Version
  readonly clients: number
  readonly batching: boolean
}

/**
 * The deadline of each client's calls: the default, and shorter ones, so that calls often end at their deadline.
 */
export const deadlines: ReadonlyArray<Duration.Duration> = [
  Duration.seconds(5),
  Duration.seconds(3),
  Duration.millis(1500)
]

/** The deadline of a client, by its name. */
export const deadlineOf = (name: string): Duration.Duration =>
  deadlines[(Number(name.slice(1)) - 1) % deadlines.length]!

export const make = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<
  Testbed,
  EtcdCluster.EtcdClusterError | EtcdBinaries.EtcdBinariesMissing | TcpProxy.TcpProxyError,
  Scope.Scope
> {
  const sockets = yield* Sockets.track
  const cluster = yield* EtcdCluster.make({ version: options.version, members: 3 })
  const links = yield* Effect.forEach(
    Array.from({ length: options.clients }),
    () => Effect.forEach(cluster.members, (member) => TcpProxy.make({ target: member.endpoint }))
  )
  return {
    cluster,
    slots: [...cluster.members],
    links,
    sockets,
    compactedAt: 0n,
    evicted: new Set(),
    openClients: Effect.forEach(links, (proxies, i) => openClient(`c${i + 1}`, proxies, options))
  }
})

const openClient = Effect.fnUntraced(function*(
  name: string,
  proxies: Links,
  options: Options
): Effect.fn.Return<Client, KvError, Scope.Scope> {
  const layer = EtcdLayer.layer({
    endpoints: proxies.map((proxy) => proxy.endpoint),
    deadline: deadlineOf(name),
    ...(options.batching ? {} : { batching: false })
  })
  // A fresh layer, because a layer that is built twice in one scope is shared.
  const open = Effect.map(Effect.suspend(() => Layer.build(Layer.fresh(layer))), Context.get(Kv.Kv))
  return { name, kv: yield* open, open }
})
