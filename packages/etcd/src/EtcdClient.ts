/**
 * Client of the `etcd3` package, for the calls of etcd that `Kv` does not have: members, users, maintenance.
 *
 * It has the layer's endpoints, TLS and token, and is closed with the layer. Nothing else of the layer applies to it:
 * errors, deadlines and retries are those of `etcd3`.
 */
import * as grpc from "@grpc/grpc-js"
import { noop } from "cockatiel"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { NodeInspectSymbol } from "effect/Inspectable"
import type * as Scope from "effect/Scope"
import { Etcd3 } from "etcd3"
import { channelOptions } from "./internal/rpc/endpoints.ts"
import type { Token, Tokens } from "./internal/rpc/tokens.ts"
import type { Settings } from "./internal/settings.ts"

/**
 * The client beneath a layer.
 *
 * @since 0.1.0
 */
export interface EtcdClient {
  /**
   * The client of the `etcd3` package.
   *
   * **Gotchas**
   *
   * It neither retries nor moves to another endpoint when one fails. The first call with an expired token fails as
   * well. Do not use its watches, leases and locks: `Kv` has them without their defects.
   */
  readonly etcd3: Etcd3
}

/**
 * The service tag of the client beneath a layer.
 *
 * @example
 * ```ts
 * import { EtcdClient, EtcdLayer } from "@effect-kv/etcd"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const { etcd3 } = yield* EtcdClient.EtcdClient
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
export const make = (
  settings: Settings,
  tokens: Tokens
): Effect.Effect<EtcdClient, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => makeEtcd3(settings, tokens)),
      (client) => Effect.sync(() => client.close())
    ),
    (client) => new Client(client)
  )

class Client implements EtcdClient {
  readonly etcd3: Etcd3

  constructor(client: Etcd3) {
    this.etcd3 = client
  }

  [NodeInspectSymbol](): unknown {
    return { _id: "EtcdClient" }
  }
}

const makeEtcd3 = (settings: Settings, tokens: Tokens): Etcd3 => {
  const client = new Etcd3({
    hosts: [...settings.endpoints],
    grpcOptions: channelOptions(settings),
    faultHandling: { global: noop, host: () => noop },
    defaultCallOptions: settings.auth === undefined ? {} : { interceptors: [withToken(tokens)] }
  })
  // The package makes its credentials of a CA, a key and a certificate alone, and cannot be given any.
  const { pool } = client as unknown as { readonly pool: { readonly hosts: ReadonlyArray<object> } }
  for (const host of pool.hosts) Object.assign(host, { channelCredentials: settings.credentials })
  return client
}

/**
 * Sends the layer's token, so that the package needs no password to print.
 *
 * When the server refuses it, the package must not hear of it in the server's words: it would send the call again and
 * again, without end.
 */
const withToken = (tokens: Tokens): grpc.Interceptor => (options, nextCall) => {
  let sent: Token
  return new grpc.InterceptingCall(nextCall(options), {
    start: (metadata, _listener, next) => {
      Effect.runCallback(tokens.get, {
        onExit: (exit) => {
          // Without a token the server's own refusal tells what is wrong.
          if (exit._tag === "Success" && exit.value !== undefined) metadata.set("token", sent = exit.value)
          next(metadata, {
            onReceiveStatus: (status, next) => {
              if (!status.details.includes("invalid auth token")) return next(status)
              tokens.refused(sent)
              next({ ...status, details: "the token has expired; the next call gets a new one" })
            }
          })
        }
      })
    }
  })
}
