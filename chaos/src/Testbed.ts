/**
 * The testbed of a run: the store, some clients, and a proxy on each link between a client and a server.
 *
 * A client reaches the servers only through its proxies, whose addresses stay the same when a server is replaced.
 */
import type * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import { type EtcdBinaries, TcpProxy } from "@effect-kv/test-suite/verification"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as EtcdStore from "./etcd/EtcdStore.ts"
import type { Backend } from "./Fault.ts"
import * as PgStore from "./postgres/PgStore.ts"
import * as Sockets from "./Sockets.ts"
import type { Field, Links, Opened, Store } from "./Store.ts"

/** A client as opened, before its calls are recorded. */
export interface Client extends Opened {
  readonly name: string
  /** Opens another client on the same links. */
  readonly open: Effect.Effect<Kv.Kv, KvError, Scope.Scope>
}

export interface Testbed extends Field {
  readonly store: Store
  /** The connections over all links. */
  readonly sockets: Sockets.Sockets
  /** Leases that the harness revoked. */
  readonly evicted: Set<bigint>
  /** Opens one client for each row of links. */
  readonly openClients: Effect.Effect<ReadonlyArray<Client>, KvError, Scope.Scope>
}

/** The options of a testbed. */
export interface Options {
  readonly backend: Backend
  /** Of etcd. */
  readonly version: EtcdBinaries.Version
  readonly clients: number
  readonly batching: boolean
  /** Changes the script of the schema in Postgres. For tests of the harness. Default: none. */
  readonly mutateScript?: ((script: string) => string) | undefined
}

export const make = Effect.fnUntraced(function*(options: Options): Effect.fn.Return<Testbed, Error, Scope.Scope> {
  const sockets = yield* Sockets.track
  const store: Store = options.backend === "etcd"
    ? yield* EtcdStore.make(options.version)
    : yield* PgStore.make({ mutateScript: options.mutateScript })
  const links = yield* Effect.forEach(
    Array.from({ length: options.clients }),
    () => Effect.forEach(store.endpoints, (target) => TcpProxy.make({ target }))
  )
  return {
    store,
    links,
    sockets,
    compactedAt: 0n,
    evicted: new Set(),
    openClients: Effect.forEach(links, (proxies, i) => openClient(store, `c${i + 1}`, proxies, options))
  }
})

const openClient = Effect.fnUntraced(function*(store: Store, name: string, links: Links, { batching }: Options) {
  const open = store.openClient({ name, links, batching })
  return { name, ...(yield* open), open: Effect.map(open, ({ kv }) => kv) } satisfies Client
})
