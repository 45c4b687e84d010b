/**
 * The `etcd3` package's client, with the layer's endpoints, TLS and token, and without the package's retries.
 *
 * Imported only on first use of `EtcdClient`, because it loads `etcd3`, its protobuf files and `@grpc/grpc-js`.
 */
import * as grpc from "@grpc/grpc-js"
import { noop } from "cockatiel"
import * as Effect from "effect/Effect"
import { Etcd3 } from "etcd3"
import type { TlsMaterial } from "../grpc/Transport.ts"
import type { Token, Tokens } from "./rpc/tokens.ts"
import type { Settings } from "./settings.ts"

export const make = (
  settings: Settings,
  endpoints: ReadonlyArray<string>,
  material: TlsMaterial,
  tokens: Tokens
): Etcd3 => {
  const client = new Etcd3({
    hosts: [...endpoints],
    grpcOptions: channelOptions(settings),
    faultHandling: { global: noop, host: () => noop },
    defaultCallOptions: settings.auth === undefined ? {} : { interceptors: [withToken(tokens)] }
  })
  // The package accepts no credentials, and builds its own from a CA, a key and a certificate only.
  const { pool } = client as unknown as { readonly pool: { readonly hosts: ReadonlyArray<object> } }
  const channelCredentials = credentials(settings, material)
  for (const host of pool.hosts) Object.assign(host, { channelCredentials })
  return client
}

const credentials = ({ tls }: Settings, { ca, certificate, key }: TlsMaterial): grpc.ChannelCredentials =>
  tls === undefined ? grpc.credentials.createInsecure() : grpc.credentials.createSsl(
    bytes(ca),
    bytes(key),
    bytes(certificate),
    tls.insecureSkipVerify ? { rejectUnauthorized: false, checkServerIdentity: () => undefined } : {}
  )

const bytes = (pem: string | Buffer | undefined): Buffer | null => pem === undefined ? null : Buffer.from(pem)

const channelOptions = ({ keepAlive, tls }: Settings): grpc.ChannelOptions => ({
  "grpc.enable_retries": 0,
  // etcd limits requests, not responses.
  "grpc.max_receive_message_length": -1,
  "grpc.max_send_message_length": -1,
  "grpc.keepalive_time_ms": keepAlive.time,
  "grpc.keepalive_timeout_ms": keepAlive.timeout,
  // Service configs come from DNS TXT records, which etcd clusters do not use.
  "grpc.service_config_disable_resolution": 1,
  "grpc.enable_channelz": 0,
  // A private connection, which closes with the client.
  "grpc.use_local_subchannel_pool": 1,
  // Like the layer, this client ignores proxies in environment variables.
  "grpc.enable_http_proxy": 0,
  ...(tls?.serverName === undefined ? {} : {
    "grpc.ssl_target_name_override": tls.serverName,
    "grpc.default_authority": tls.serverName
  })
})

/**
 * Sends the layer's token. The package gets no password, so it cannot print one.
 *
 * The package must not see the server's message for a rejected token: it would retry the call indefinitely.
 */
const withToken = (tokens: Tokens): grpc.Interceptor => (options, nextCall) => {
  let sent: Token
  return new grpc.InterceptingCall(nextCall(options), {
    start: (metadata, _listener, next) => {
      Effect.runCallback(tokens.get, {
        onExit: (exit) => {
          // Without a token the server rejects the call, and its message explains why.
          if (exit._tag === "Success" && exit.value !== undefined) metadata.set("token", sent = exit.value)
          next(metadata, {
            onReceiveStatus: (status, next) => {
              if (!status.details.includes("invalid auth token")) return next(status)
              tokens.rejected(sent)
              next({ ...status, details: "the token has expired; the next call gets a new one" })
            }
          })
        }
      })
    }
  })
}
