/**
 * A client of a store: the six functions of a backend, until its scope closes.
 */
import * as Check from "@effect-kv/core/Check"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import * as Lease from "@effect-kv/core/Lease"
import type * as Watch from "@effect-kv/core/Watch"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type LeaseState, sortedKeys } from "./leases.ts"
import type { Store } from "./store.ts"
import * as storeMetrics from "./storeMetrics.ts"
import type { StoreWatch } from "./storeWatch.ts"
import * as Watcher from "./watcher.ts"

/** Opens a client. When the scope closes, its calls and its watches fail with `Closed`. */
export const connect = (store: Store): Effect.Effect<KvBackend, never, Scope.Scope> =>
  Effect.andThen(
    storeMetrics.observe(store),
    Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => new Client(store)),
        (client) => Effect.sync(() => client.close())
      ),
      toBackend
    )
  )

class Client {
  readonly store: Store
  readonly #watches = new Set<StoreWatch>()
  #isOpen = true

  constructor(store: Store) {
    this.store = store
    store.open()
  }

  get isOpen(): boolean {
    return this.#isOpen
  }

  close(): void {
    this.#isOpen = false
    for (const watch of this.#watches) this.unwatch(watch)
    this.store.close()
  }

  watch(request: Watch.WatchRequest): StoreWatch | KvError.KvError {
    const watch = this.store.watch(request)
    if (watch instanceof KvError.KvError) return watch
    this.#watches.add(watch)
    return watch
  }

  unwatch(watch: StoreWatch): void {
    if (!this.#watches.delete(watch)) return
    this.store.unwatch(watch)
    watch.end(watchClosed)
  }
}

const closed = (what: string): KvError.KvError =>
  KvError.make(new KvError.Closed({ message: `${what} was closed: the scope it was opened in has ended` }))

/** Made once, because every watch ends with it and errors are expensive. */
const watchClosed = closed("the watch")

const clientClosed = closed("the client")

const toBackend = (client: Client): KvBackend => ({
  execute: (op) =>
    Effect.suspend(() => client.isOpen ? fromResult(client.store.execute(op)) : Effect.fail(clientClosed)),
  watch: (request) => whileOpen(client, () => watch(client, request)),
  leaseGrant: (options) =>
    whileOpen(client, () =>
      Effect.flatMap(
        Check.grantSeconds(options),
        (seconds) => Effect.map(whileOpen(client, () => fromResult(client.store.grant(options.id, seconds))), toLease)
      )),
  leaseKeepAlive: (id) =>
    withLease(client, id, (lease) => {
      client.store.keepAlive(lease)
      return toLease(lease)
    }),
  leaseRevoke: (id) => withLease(client, id, (lease) => client.store.revoke(lease)),
  leaseTimeToLive: (id, options) =>
    withLease(client, id, (lease) =>
      Lease.makeStatus({
        id,
        grantedTtl: Duration.seconds(lease.ttl),
        // Rounded down, as in etcd.
        remaining: Duration.seconds(Math.floor(client.store.remaining(lease))),
        keys: options?.keys === true ? sortedKeys(lease) : []
      }))
})

const whileOpen = <A, R>(
  client: Client,
  f: () => Effect.Effect<A, KvError.KvError, R>
): Effect.Effect<A, KvError.KvError, R> => Effect.suspend(() => client.isOpen ? f() : Effect.fail(clientClosed))

const fromResult = <A>(result: A | KvError.KvError): Effect.Effect<A, KvError.KvError> =>
  result instanceof KvError.KvError ? Effect.fail(result) : Effect.succeed(result)

const withLease = <A>(client: Client, id: bigint, f: (lease: LeaseState) => A): Effect.Effect<A, KvError.KvError> =>
  whileOpen(client, () =>
    Effect.andThen(
      Check.orFail(Check.leaseId(id)),
      // The lease is looked up and used in one step. Between two steps the fiber may yield, and the lease may end.
      whileOpen(client, () => {
        const lease = client.store.lease(id)
        return KvError.isKvError(lease) ? Effect.fail(lease) : Effect.succeed(f(lease))
      })
    ))

const toLease = (lease: LeaseState): Lease.Lease => Lease.make({ id: lease.id, ttl: Duration.seconds(lease.ttl) })

const watch = (
  client: Client,
  request: Watch.WatchRequest
): Effect.Effect<Watch.Watcher, KvError.KvError, Scope.Scope> => {
  const opened = Effect.acquireRelease(
    whileOpen(client, () => fromResult(client.watch(request))),
    (watch) => Effect.sync(() => client.unwatch(watch))
  )
  return Effect.andThen(Check.orFail(Check.watch(request)), Effect.map(opened, Watcher.make))
}
