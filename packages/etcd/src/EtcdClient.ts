/**
 * The `etcd3` client beneath a layer: etcd's own calls, for what `Kv` does not have (members, users, maintenance).
 *
 * It has the layer's endpoints, TLS and token, and is closed with the layer. Nothing else of the layer applies to it:
 * its errors, deadlines and retries are those of the `etcd3` package.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { NodeInspectSymbol } from "effect/Inspectable"
import * as Scope from "effect/Scope"
import type { Etcd3 } from "etcd3"
import type { Tokens } from "./internal/rpc/tokens.ts"
import type { Settings } from "./internal/settings.ts"

/** The client beneath. */
export interface EtcdClient {
  /**
   * A client of the `etcd3` package, which is imported and opened on first use. Later uses get the same client.
   *
   * **Gotchas**
   *
   * It neither retries nor moves to another endpoint when one fails, and the first call with a token that has expired fails
   * as well. Do not use its watches, leases and locks: `Kv` has them without their defects.
   */
  readonly etcd3: Effect.Effect<Etcd3>
}

/** Identifies the client beneath. */
export const EtcdClient: Context.Service<EtcdClient, EtcdClient> = Context.Service<EtcdClient>(
  "@effect-kv/etcd/EtcdClient"
)

/** @internal */
export const make = Effect.fnUntraced(
  function*(settings: Settings, tokens: Tokens): Effect.fn.Return<EtcdClient, never, Scope.Scope> {
    const scope = yield* Effect.scope
    const open = Effect.acquireRelease(
      Effect.gen(function*() {
        // The package loads protobuf files, which would more than double the time to import the layer.
        const etcd3Client = yield* Effect.promise(() => import("./internal/etcd3Client.ts"))
        return etcd3Client.make(settings, yield* settings.tls?.material ?? Effect.succeed({}), tokens)
      }),
      (client) => Effect.sync(() => client.close())
    )
    // The first caller opens it for all, and must not take it away by being interrupted.
    return new Client(yield* Effect.cached(Effect.uninterruptible(Scope.provide(open, scope))))
  }
)

class Client implements EtcdClient {
  readonly etcd3: Effect.Effect<Etcd3>

  constructor(etcd3: Effect.Effect<Etcd3>) {
    this.etcd3 = etcd3
  }

  [NodeInspectSymbol](): unknown {
    return { _id: "EtcdClient" }
  }
}
