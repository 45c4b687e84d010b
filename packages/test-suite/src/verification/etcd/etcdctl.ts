/**
 * Invocations of `etcdctl`, and the parsing of its output. `etcdctl` shares no code with this project.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Environment } from "./environment.ts"
import { EtcdClusterError, failure, fromGuardian } from "./EtcdClusterError.ts"

/**
 * Options of one invocation of `etcdctl`.
 *
 * @since 0.1.0
 */
export interface EtcdctlOptions {
  readonly stdin?: string | undefined
  readonly env?: Readonly<Record<string, string>> | undefined
  /** Default: all running members. */
  readonly endpoint?: string | undefined
}

export const etcdctlEnv = (
  { options, rootPassword }: Environment,
  endpoints: ReadonlyArray<string>
): Record<string, string> => ({
  ETCDCTL_API: "3",
  ETCDCTL_ENDPOINTS: endpoints.join(","),
  ...(rootPassword === undefined ? {} : { ETCDCTL_USER: `root:${rootPassword}` }),
  ...(options.tls === undefined ? {} : { ETCDCTL_CACERT: options.tls.ca.certFile }),
  ...(options.tls?.client === undefined
    ? {}
    : { ETCDCTL_CERT: options.tls.client.certFile, ETCDCTL_KEY: options.tls.client.keyFile })
})

export const runEtcdctl = Effect.fnUntraced(function*(
  environment: Environment,
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>>,
  stdin?: string
) {
  const operation = `etcdctl ${args.slice(0, 2).join(" ")}`
  return yield* Effect.acquireUseRelease(
    environment.guardian.spawn({
      command: environment.binaries.etcdctl,
      args,
      env,
      stdio: [stdin === undefined ? "ignore" : "pipe", "pipe", "pipe"]
    }).pipe(Effect.mapError(fromGuardian(operation))),
    Effect.fnUntraced(function*(guarded) {
      const output = { stdout: "", stderr: "" }
      guarded.stdout?.setEncoding("utf8").on("data", (chunk: string) => (output.stdout += chunk))
      guarded.stderr?.setEncoding("utf8").on("data", (chunk: string) => (output.stderr += chunk))
      const closed = [guarded.stdout, guarded.stderr].map((stream) =>
        Effect.callback<void>((resume) => {
          if (stream === null || stream.closed) return resume(Effect.void)
          stream.once("close", () => resume(Effect.void))
        })
      )
      guarded.stdin?.end(stdin)
      const ended = yield* guarded.end
      yield* Effect.all(closed)
      if (ended.code === 0) return output.stdout
      return yield* failure(operation, output.stderr.trim() || `ended by ${ended.signal ?? `exit code ${ended.code}`}`)
    }),
    (guarded) => guarded.ended() === undefined ? guarded.signal("SIGKILL") : Effect.void
  )
})

/**
 * Parses JSON with integers as strings, because member ids and lease ids do not fit into a number. Keys and values are
 * quoted base64, so the replacement cannot touch them.
 */
export const parseJson = (text: string): unknown => JSON.parse(text.replace(/:(-?\d+)(?=[,}\]])/g, `:"$1"`))

export const decode = <A>(operation: string, schema: Schema.Codec<A, unknown>) => {
  const decodeUnknown = Schema.decodeUnknownEffect(schema)
  return (text: string): Effect.Effect<A, EtcdClusterError> =>
    Effect.suspend(() => {
      try {
        return decodeUnknown(parseJson(text))
      } catch (cause) {
        return Effect.fail(cause)
      }
    }).pipe(
      Effect.mapError((cause) =>
        new EtcdClusterError({ operation, message: `unexpected output of etcdctl: ${text.slice(0, 500)}`, cause })
      )
    )
}

const EndpointStatus = Schema.Array(Schema.Struct({
  Status: Schema.Struct({
    header: Schema.Struct({ member_id: Schema.String, revision: Schema.String }),
    leader: Schema.optionalKey(Schema.String),
    raftTerm: Schema.String
  })
}))

export interface Status {
  readonly id: bigint
  readonly leader: bigint
  readonly term: bigint
  readonly revision: bigint
}

const decodeStatus = decode("etcdctl endpoint status", EndpointStatus)

export const statusOf = Effect.fnUntraced(function*(environment: Environment, endpoint: string) {
  const text = yield* runEtcdctl(
    environment,
    ["endpoint", "status", "-w", "json", "--command-timeout", "2s"],
    etcdctlEnv(environment, [endpoint])
  )
  const [first] = yield* decodeStatus(text)
  if (first === undefined) return yield* failure("status", `etcdctl printed no status of ${endpoint}`)
  const { header, leader, raftTerm } = first.Status
  const status: Status = {
    id: BigInt(header.member_id),
    leader: BigInt(leader ?? 0),
    term: BigInt(raftTerm),
    revision: BigInt(header.revision)
  }
  return status
})
