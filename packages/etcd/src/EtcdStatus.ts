/**
 * The status of each endpoint of a cluster, requested one by one: for diagnosis and health checks.
 *
 * `Kv` uses one endpoint at a time and hides the others' faults. Here each endpoint reports its own status, even while the
 * cluster has no leader.
 */
import type * as KvError from "@effect-kv/core/KvError"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as References from "effect/References"
import type * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as memberStatus from "./internal/memberStatus.ts"
import type { Options } from "./internal/options.ts"
import * as realTime from "./internal/realTime.ts"
import * as connection from "./internal/rpc/connection.ts"
import * as checked from "./internal/settings.ts"
import type { MemberStatus } from "./internal/wire/statusCodec.ts"

/**
 * What a member says about itself and its cluster.
 *
 * @since 0.1.0
 */
export interface Status {
  /** The version of etcd, such as `3.7.0`. */
  readonly version: string
  readonly clusterId: bigint
  readonly memberId: bigint
  /** The member that it follows, which may be itself; `none` if it knows no leader. */
  readonly leader: Option.Option<bigint>
  /** Whether it is a learner, which serves neither linearizable reads nor writes. */
  readonly isLearner: boolean
  /** The revision of its store. */
  readonly revision: bigint
  /** The size of its database file, in bytes. */
  readonly dbSize: number
  /** The part of it that is in use, in bytes. */
  readonly dbSizeInUse: number
  /** The size above which the cluster raises the alarm `NOSPACE`, in bytes; `none` before etcd 3.6. */
  readonly dbSizeQuota: Option.Option<number>
  /** The alarms of the cluster. With `NOSPACE` it rejects writes, with `CORRUPT` everything. */
  readonly alarms: ReadonlyArray<Alarm>
}

/**
 * An alarm, which stays until an operator disarms it.
 *
 * @since 0.1.0
 */
export interface Alarm {
  /** The member that raised it. */
  readonly memberId: bigint
  /** `NOSPACE`, `CORRUPT`, or what a newer version of etcd reports. */
  readonly kind: string
}

/**
 * An endpoint, and its status or why there is none.
 *
 * @since 0.1.0
 */
export interface EndpointStatus {
  readonly endpoint: string
  readonly status: Result.Result<Status, KvError.KvError>
  /** How long it took to connect and to get the response. */
  readonly took: Duration.Duration
}

/**
 * The status of each endpoint in the options, in their order. Opens a connection to each, and closes it again.
 *
 * **Details**
 *
 * All endpoints are tried at the same time, each for as long as the `deadline` of the options. An endpoint that does not
 * respond is no failure of the call: `status` has the reason. Credentials are used only if a member demands them, as
 * members with authentication enabled do. Without a quorum these cannot check credentials, and `status` is a failure. A
 * stream of endpoints contributes its first list. `prefix`, `followMembers`, `batching` and `tracing` have no effect.
 *
 * Fails with `InvalidRequest` if the options are invalid.
 *
 * @example
 * ```ts
 * import { EtcdStatus } from "@effect-kv/etcd"
 * import { Effect, Result } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const [first] = yield* EtcdStatus.endpoints({ endpoints: ["http://127.0.0.1:2379"] })
 *   const { alarms, version } = Result.getOrThrow(first!.status)
 *   version.startsWith("3.") // => true
 *   alarms.length // => 0
 * })
 * ```
 *
 * @since 0.1.0
 */
export const endpoints = (options: Options): Effect.Effect<ReadonlyArray<EndpointStatus>, KvError.KvError> =>
  realTime.provide(Effect.scoped(Effect.gen(function*() {
    const settings = yield* checked.make(options)
    return yield* Effect.forEach(settings.endpoints, (endpoint) => ofEndpoint(settings, endpoint), {
      concurrency: "unbounded"
    })
  })))

/**
 * {@link endpoints} with the endpoints, and maybe the user, in a URL: see `EtcdLayer.fromUrl`.
 *
 * @example
 * ```ts
 * import { EtcdStatus } from "@effect-kv/etcd"
 * import { Effect, Result } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const all = yield* EtcdStatus.fromUrl("http://127.0.0.1:2379", { deadline: "2 seconds" })
 *   all.every(({ status }) => Result.isSuccess(status)) // => true
 * })
 * ```
 *
 * @since 0.1.0
 */
export const fromUrl = (
  url: string,
  options?: Omit<Options, "endpoints">
): Effect.Effect<ReadonlyArray<EndpointStatus>, KvError.KvError> =>
  Effect.flatMap(checked.fromUrl(url), (fromUrl) => endpoints({ ...fromUrl, ...options }))

const ofEndpoint = Effect.fnUntraced(
  function*(settings: checked.Settings, endpoint: string): Effect.fn.Return<EndpointStatus> {
    const alone = { ...settings, endpoints: [endpoint], followEndpoints: () => Effect.void, membersInterval: undefined }
    const [took, status] = yield* request({ ...alone, auth: undefined }).pipe(
      Effect.catch((error) =>
        settings.auth !== undefined && demandsCredentials(error) ? request(alone) : Effect.fail(error)
      ),
      Effect.result,
      Effect.timed,
      // The result has the reason.
      Effect.provideService(References.MinimumLogLevel, "None")
    )
    return { endpoint, status, took }
  }
)

const demandsCredentials = ({ reason: { _tag } }: KvError.KvError): boolean =>
  _tag === "Unauthenticated" || _tag === "PermissionDenied"

const request = (settings: checked.Settings): Effect.Effect<Status, KvError.KvError> =>
  Effect.scoped(Effect.gen(function*(): Effect.fn.Return<Status, KvError.KvError, Scope.Scope> {
    const to = yield* connection.make(settings)
    return statusOf(yield* memberStatus.request(to))
  }))

const statusOf = (response: MemberStatus): Status => ({
  version: response.version,
  clusterId: response.header.clusterId,
  memberId: response.header.memberId,
  leader: response.leader === 0n ? Option.none() : Option.some(response.leader),
  isLearner: response.isLearner,
  revision: response.header.revision,
  dbSize: response.dbSize,
  dbSizeInUse: response.dbSizeInUse,
  dbSizeQuota: response.dbSizeQuota === 0 ? Option.none() : Option.some(response.dbSizeQuota),
  alarms: memberStatus.alarmsOf(response)
})
