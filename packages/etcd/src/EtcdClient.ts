/**
 * The `etcd3` package's client, for etcd calls that `Kv` does not have: members, users, maintenance.
 *
 * It uses the layer's endpoints, TLS and token, and closes with the layer. Nothing else of the layer applies to it:
 * errors, deadlines and retries are those of `etcd3`.
 */
import * as KvError from "@effect-kv/core/KvError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { NodeInspectSymbol } from "effect/Inspectable"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type { Etcd3 } from "etcd3"
import type { Tokens } from "./internal/rpc/tokens.ts"
import type { Settings } from "./internal/settings.ts"

/**
 * The `etcd3` client of a layer.
 *
 * @since 0.1.0
 */
export interface EtcdClient {
  /**
   * The client of the `etcd3` package, which is imported and opened on first use. Later uses get the same client.
   *
   * **Gotchas**
   *
   * It neither retries nor moves to another endpoint when one fails. The first call with an expired token also
   * fails. It keeps the endpoints and certificates of its first use. Do not use its watches, leases and locks: `Kv` has
   * them without their defects.
   *
   * Fails with `Unavailable` if a file of `tls.files` cannot be used. The next use reads it again.
   */
  readonly etcd3: Effect.Effect<Etcd3, KvError.KvError>
}

/**
 * The service tag of a layer's `etcd3` client.
 *
 * @example
 * ```ts
 * import { EtcdClient, EtcdLayer } from "@effect-kv/etcd"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const client = yield* EtcdClient.EtcdClient
 *   const etcd3 = yield* client.etcd3
 *   const { version } = yield* Effect.promise(() => etcd3.maintenance.status())
 *   version.startsWith("3.") // => true
 * }).pipe(Effect.provide(EtcdLayer.layer({ endpoints: ["http://127.0.0.1:2379"] })))
 * ```
 *
 * @since 0.1.0
 */
export const EtcdClient: Context.Service<EtcdClient, EtcdClient> = Context.Service<EtcdClient>(
  "@effect-kv/etcd/EtcdClient"
)

/** @internal */
export const make = Effect.fnUntraced(
  function*(
    settings: Settings,
    endpoints: () => ReadonlyArray<string>,
    tokens: Tokens
  ): Effect.fn.Return<EtcdClient, never, Scope.Scope> {
    const scope = yield* Effect.scope
    const opening = Semaphore.makeUnsafe(1)
    let opened: Etcd3 | undefined
    const open = Effect.acquireRelease(
      Effect.gen(function*() {
        // The package loads protobuf files. A static import would more than double the time to import the layer.
        const etcd3Client = yield* Effect.promise(() => import("./internal/etcd3Client.ts"))
        const material = yield* Effect.mapError(
          settings.tls?.material ?? Effect.succeed({}),
          (message) => KvError.make(new KvError.Unavailable({ message }))
        )
        return opened = etcd3Client.make(settings, endpoints(), material, tokens)
      }),
      (client) => Effect.sync(() => client.close())
    )
    // The first caller opens the client for all callers, so interrupting it must not stop the opening.
    const once = Effect.uninterruptible(Scope.provide(open, scope))
    return new Client(opening.withPermit(Effect.suspend(() => opened === undefined ? once : Effect.succeed(opened))))
  }
)

class Client implements EtcdClient {
  readonly etcd3: Effect.Effect<Etcd3, KvError.KvError>

  constructor(etcd3: Effect.Effect<Etcd3, KvError.KvError>) {
    this.etcd3 = etcd3
  }

  [NodeInspectSymbol](): unknown {
    return { _id: "EtcdClient" }
  }
}
