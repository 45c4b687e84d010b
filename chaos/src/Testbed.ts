/**
 * Where it happens: a cluster of three members, some clients, and a proxy on each link between a client and a member.
 *
 * A client reaches the members only through its proxies, whose addresses stay when a member is replaced. What it does is
 * counted: fibers that run on its behalf, and what is left of them when it is closed.
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

/** A cluster that is running. */
export type Cluster = EtcdCluster.EtcdCluster["Service"]

/** A client as it was opened, before its calls are recorded. */
export interface Client {
  readonly name: string
  readonly kv: Kv.Kv
  /** Opens another on the same links. */
  readonly open: Effect.Effect<Kv.Kv, KvError, Scope.Scope>
}

/** The links of a client, one to each member. */
export type Links = ReadonlyArray<TcpProxy.TcpProxy>

export interface Testbed {
  readonly cluster: Cluster
  /** The members in their places; a place gets another when a member is replaced. */
  readonly slots: Array<EtcdCluster.Member>
  /** Of each client, by its place. */
  readonly links: ReadonlyArray<Links>
  /** The connections over all links. */
  readonly sockets: Sockets.Sockets
  /** The revision the store was compacted at last, `0n` for never. */
  compactedAt: bigint
  /** Leases that were ended behind the backs of their owners. */
  readonly evicted: Set<bigint>
  /** Opens the clients: one for each row of links. */
  readonly openClients: Effect.Effect<ReadonlyArray<Client>, KvError, Scope.Scope>
}

/** What a testbed is made of. */
export interface Options {
  readonly version: EtcdBinaries.Version
  readonly clients: number
  readonly batching: boolean
}

/**
 * How long a call of each client may take: the default, and shorter, so that what ends with its deadline is seen often.
 */
export const deadlines: ReadonlyArray<Duration.Duration> = [
  Duration.seconds(5),
  Duration.seconds(3),
  Duration.millis(1500)
]

/** By the name of a client. */
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
  // Fresh, since a layer that is built twice in one scope is shared.
  const open = Effect.map(Effect.suspend(() => Layer.build(Layer.fresh(layer))), Context.get(Kv.Kv))
  return { name, kv: yield* open, open }
})
