/**
 * The `etcd3` package's client, with the layer's endpoints, TLS and token, and without the package's retries.
 *
 * Imported on first use of `EtcdClient` alone: it loads `etcd3`, its protobuf files and `@grpc/grpc-js`.
 */
import * as grpc from "@grpc/grpc-js"
import { noop } from "cockatiel"
import * as Effect from "effect/Effect"
import { Etcd3 } from "etcd3"
import type { TlsMaterial } from "../grpc/Transport.ts"
import type { Token, Tokens } from "./rpc/tokens.ts"
import type { Settings } from "./settings.ts"

export const make = (settings: Settings, material: TlsMaterial, tokens: Tokens): Etcd3 => {
  const client = new Etcd3({
    hosts: [...settings.endpoints],
    grpcOptions: channelOptions(settings),
    faultHandling: { global: noop, host: () => noop },
    defaultCallOptions: settings.auth === undefined ? {} : { interceptors: [withToken(tokens)] }
  })
  // The package makes its credentials of a CA, a key and a certificate alone, and cannot be given any.
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
  // Service configs come by DNS TXT records, for which no etcd cluster has a use.
  "grpc.service_config_disable_resolution": 1,
  "grpc.enable_channelz": 0,
  // A connection of its own, which ends with the client.
  "grpc.use_local_subchannel_pool": 1,
  // As the layer itself, it uses no proxy that environment variables name.
  "grpc.enable_http_proxy": 0,
  ...(tls?.serverName === undefined ? {} : {
    "grpc.ssl_target_name_override": tls.serverName,
    "grpc.default_authority": tls.serverName
  })
})

/**
 * Sends the layer's token, so that the package needs no password to print.
 *
 * When the server rejects it, the package must not get the server's words: it would send the call again and again, without
 * end.
 */
const withToken = (tokens: Tokens): grpc.Interceptor => (options, nextCall) => {
  let sent: Token
  return new grpc.InterceptingCall(nextCall(options), {
    start: (metadata, _listener, next) => {
      Effect.runCallback(tokens.get, {
        onExit: (exit) => {
          // Without a token the server's own rejection says what is wrong.
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
