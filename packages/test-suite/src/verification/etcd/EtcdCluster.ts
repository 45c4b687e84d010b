/**
 * Real etcd clusters for tests: one or three members on free loopback ports, with their own data.
 *
 * Members can be killed, stopped, paused, started again, added and removed. `etcdctl`, which shares no code with this
 * project, reads and changes the store. Processes and files belong to a scope: they are removed when it closes, and also
 * if the process that owns it is killed. All waiting is in real time, whichever clock the test uses.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { releasePort } from "../internal/ports.ts"
import { realTime } from "../internal/realTime.ts"
import { type AuthOptions, enableAuth } from "./auth.ts"
import type { Environment, Options } from "./environment.ts"
import * as EtcdBinaries from "./EtcdBinaries.ts"
import { EtcdClusterError, failure, fromGuardian } from "./EtcdClusterError.ts"
import { decode, etcdctlEnv, type EtcdctlOptions, runEtcdctl, statusOf } from "./etcdctl.ts"
import * as Guardian from "./Guardian.ts"
import { httpGet } from "./httpGet.ts"
import { allocatePorts, makeMember, type Member, type MemberInternal, peerUrlOf } from "./member.ts"
import { type Metrics, parseMetrics } from "./metrics.ts"
import * as PeerNetwork from "./PeerNetwork.ts"
import { type Recording, watchFrom } from "./recording.ts"

export type { AuthOptions, Permission, User } from "./auth.ts"
export type { Options, Tls } from "./environment.ts"
export { EtcdClusterError }
export type { EtcdctlOptions } from "./etcdctl.ts"
export type { Member } from "./member.ts"
export type { Metrics } from "./metrics.ts"
export type { HistoryEvent, Recording } from "./recording.ts"

/**
 * A running cluster.
 *
 * @since 0.1.0
 */
export class EtcdCluster extends Context.Service<EtcdCluster, {
  readonly version: EtcdBinaries.Version
  /** The directory of the cluster. Tests may put further files into it. */
  readonly directory: string
  /** The initial members, in order. */
  readonly members: ReadonlyArray<Member>
  /** The endpoints of the initial members. */
  readonly endpoints: ReadonlyArray<string>
  /** The first member, for tests that use a single server. */
  readonly member: Member
  /** The current members: those added are included, those removed are not. */
  readonly currentMembers: Effect.Effect<ReadonlyArray<Member>>
  /** Runs `etcdctl` and returns its output. After `enableAuth` it runs as root. */
  readonly etcdctl: (args: ReadonlyArray<string>, options?: EtcdctlOptions) => Effect.Effect<string, EtcdClusterError>
  /** Waits until all running members are healthy. */
  readonly awaitHealthy: Effect.Effect<void, EtcdClusterError>
  /** Sends SIGKILL to all members at once. */
  readonly killAll: Effect.Effect<void>
  /** Starts all members that are not running, and waits until all are healthy. */
  readonly startAll: Effect.Effect<void, EtcdClusterError>
  /** The store's revision. */
  readonly revision: Effect.Effect<bigint, EtcdClusterError>
  /** Compacts the history before `revision`, and returns when the compaction is complete. */
  readonly compact: (revision: bigint) => Effect.Effect<void, EtcdClusterError>
  /** Defragments every running member, one after the other. */
  readonly defragment: Effect.Effect<void, EtcdClusterError>
  /** The leader of the highest term that a running member reports. Waits for an election if there is none. */
  readonly leader: Effect.Effect<Member, EtcdClusterError>
  /** Transfers leadership to `to` (default: any other member), and returns the new leader. */
  readonly moveLeader: (to?: Member) => Effect.Effect<Member, EtcdClusterError>
  /** Adds an empty member and waits until it is healthy. */
  readonly memberAdd: Effect.Effect<Member, EtcdClusterError>
  /** Removes a member from the cluster, kills its process and deletes its data. */
  readonly memberRemove: (member: Member) => Effect.Effect<void, EtcdClusterError>
  /**
   * Cuts a member off from its peers, while clients still reach it. Needs the option `isolatable`. The member soon has no
   * leader.
   */
  readonly isolate: (member: Member) => Effect.Effect<void, EtcdClusterError>
  /** Ends `isolate`. */
  readonly rejoin: (member: Member) => Effect.Effect<void, EtcdClusterError>
  /** Turns authentication on. From then on `etcdctl` runs as root. */
  readonly enableAuth: (options: AuthOptions) => Effect.Effect<void, EtcdClusterError>
  /** The metrics of a member. Default: the first one. */
  readonly metrics: (member?: Member) => Effect.Effect<Metrics, EtcdClusterError>
  /** Deletes all keys. */
  readonly wipe: Effect.Effect<void, EtcdClusterError>
  /** Records all changes from `revision` on (default: 1) until the scope closes, across restarts of members. */
  readonly watchFrom: (revision?: bigint) => Effect.Effect<Recording, EtcdClusterError, Scope.Scope>
}>()("@effect-kv/test-suite/EtcdCluster") {}

type EtcdClusterService = EtcdCluster["Service"]

/**
 * Starts a cluster that runs until the scope closes.
 *
 * @example
 * ```ts
 * import { EtcdCluster } from "@effect-kv/test-suite/verification"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const cluster = yield* EtcdCluster.make()
 *   yield* cluster.etcdctl(["put", "a", "1"])
 *   yield* cluster.member.restart
 *   const output = yield* cluster.etcdctl(["get", "a", "--print-value-only"])
 *   output.trim() // => "1"
 * })
 * ```
 *
 * @since 0.1.0
 */
export const make = (
  options: Options = {}
): Effect.Effect<
  EtcdClusterService,
  EtcdClusterError | EtcdBinaries.EtcdBinariesMissing,
  Scope.Scope
> => realTime(makeCluster(options))

/**
 * A cluster shared by the tests of a file: `layer(EtcdCluster.layer())("...", (it) => ...)`.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { EtcdLayer } from "@effect-kv/etcd"
 * import { EtcdCluster } from "@effect-kv/test-suite/verification"
 * import { Effect, Layer } from "effect"
 *
 * const Live = Layer.unwrap(
 *   Effect.map(EtcdCluster.EtcdCluster, ({ endpoints }) => EtcdLayer.layer({ endpoints }))
 * ).pipe(Layer.provide(EtcdCluster.layer()))
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("a", "1")
 *   yield* Kv.get("a") // => Option.some("1")
 * }).pipe(Effect.provide(Live))
 * ```
 *
 * @since 0.1.0
 */
export const layer = (
  options: Options = {}
): Layer.Layer<EtcdCluster, EtcdClusterError | EtcdBinaries.EtcdBinariesMissing> =>
  Layer.effect(EtcdCluster, make(options))

const makeCluster = Effect.fnUntraced(function*(options: Options) {
  const version = options.version ?? (yield* EtcdBinaries.currentVersion)
  const binaries = yield* EtcdBinaries.get(version)
  const guardian = yield* Guardian.make("effect-kv-etcd").pipe(Effect.mapError(fromGuardian("make")))
  const environment: Environment = {
    binaries,
    guardian,
    options,
    startTimeout: options.startTimeout ?? "30 seconds",
    peers: options.isolatable === true ? yield* PeerNetwork.make : undefined,
    rootPassword: undefined
  }
  const ports = new Set<number>()
  yield* Effect.addFinalizer(() => Effect.forEach(ports, releasePort))

  const members = yield* bootstrap(environment, ports).pipe(
    // Another process took one of the ports after it was chosen. Start over with new ports.
    Effect.retry({ while: (error) => error.operation === "bind", times: 10 }),
    Effect.timeoutOrElse({
      duration: environment.startTimeout,
      orElse: () => Effect.fail(failure("make", "the cluster did not become healthy in time"))
    })
  )
  return assemble(environment, members, ports)
})

const bootstrap = Effect.fnUntraced(function*(environment: Environment, allPorts: Set<number>) {
  const names = environment.options.members === 3 ? ["m1", "m2", "m3"] : ["m1"]
  const planned = yield* Effect.forEach(
    names,
    (name) => Effect.map(allocatePorts(allPorts, environment.peers !== undefined), (ports) => ({ name, ports }))
  )
  const initialCluster = planned.map(({ name, ports }) => `${name}=${peerUrlOf(ports)}`).join(",")
  const members = planned.map(({ name, ports }) => makeMember(environment, name, ports, initialCluster, "new"))
  yield* Effect.forEach(members, (member) => member.launch, { concurrency: "unbounded" }).pipe(
    Effect.andThen(Effect.forEach(members, (member) => member.awaitHealthy, { concurrency: "unbounded" })),
    Effect.onError(() => Effect.forEach(members, (member) => member.discard, { concurrency: "unbounded" }))
  )
  return members
})

const assemble = (
  environment: Environment,
  initial: ReadonlyArray<MemberInternal>,
  ports: Set<number>
): EtcdClusterService => {
  const { binaries, guardian, startTimeout } = environment
  let current = initial
  let added = 0

  const responsive = () => current.filter((member) => member.canRespond())
  const etcdctlEndpoints = () => {
    const members = responsive()
    return (members.length === 0 ? current : members).map((member) => member.endpoint)
  }

  const etcdctl: EtcdClusterService["etcdctl"] = (args, commandOptions = {}) =>
    Effect.suspend(() => {
      const endpoints = commandOptions.endpoint === undefined ? etcdctlEndpoints() : [commandOptions.endpoint]
      const env = { ...etcdctlEnv(environment, endpoints), ...commandOptions.env }
      return realTime(runEtcdctl(environment, args, env, commandOptions.stdin))
    })

  /** The status of each member that responds, the highest term first. */
  const statuses = Effect.suspend(() =>
    Effect.forEach(
      responsive(),
      (member) =>
        statusOf(environment, member.endpoint).pipe(
          Effect.map((status) => [{ member, status }]),
          Effect.orElseSucceed(() => [])
        ),
      { concurrency: "unbounded" }
    )
  ).pipe(Effect.map((all) => all.flat().toSorted((a, b) => Number(b.status.term - a.status.term))))

  const leader = statuses.pipe(
    Effect.flatMap((all) => {
      const leaderId = all.find(({ status }) => status.leader !== 0n)?.status.leader
      const found = all.find(({ status }) => status.id === leaderId)
      return found === undefined
        ? Effect.fail(failure("leader", "no member reports a leader"))
        : Effect.succeed(found.member)
    }),
    Effect.retry({ schedule: Schedule.spaced("50 millis") }),
    Effect.timeoutOrElse({
      duration: startTimeout,
      orElse: () => Effect.fail(failure("leader", "no leader was elected in time"))
    }),
    realTime
  )

  const awaitHealthy = Effect.suspend(() =>
    Effect.forEach(responsive(), (member) => member.awaitHealthy, { concurrency: "unbounded", discard: true })
  )

  const moveLeader: EtcdClusterService["moveLeader"] = Effect.fnUntraced(function*(to?: Member) {
    const from = yield* leader
    const target = to ?? responsive().find((member) => member !== from)
    if (target === undefined) return yield* failure("moveLeader", "there is no other member")
    if (target === from) return from
    yield* etcdctl(["move-leader", yield* target.id], { endpoint: from.endpoint })
    return yield* leader.pipe(
      Effect.repeat({ until: (member) => member === target, schedule: Schedule.spaced("20 millis") }),
      Effect.timeoutOrElse({
        duration: startTimeout,
        orElse: () => Effect.fail(failure("moveLeader", `${target.name} did not become the leader`))
      }),
      realTime
    )
  })

  /** Retries a change of members: etcd rejects it until all members have been connected for five seconds. */
  const whenSettled = <A>(change: Effect.Effect<A, EtcdClusterError>): Effect.Effect<A, EtcdClusterError> =>
    change.pipe(
      Effect.retry({
        while: (error) => error.message.includes("unhealthy cluster"),
        schedule: Schedule.spaced("250 millis")
      }),
      Effect.timeoutOrElse({
        duration: startTimeout,
        orElse: () => Effect.fail(failure("member", "the cluster did not become ready for a change of members in time"))
      }),
      realTime
    )

  const memberAdd = Effect.gen(function*() {
    const memberPorts = yield* allocatePorts(ports, environment.peers !== undefined)
    const name = `m${initial.length + ++added}`
    const peerUrl = peerUrlOf(memberPorts)
    yield* whenSettled(etcdctl(["member", "add", name, `--peer-urls=${peerUrl}`]))
    const initialCluster = [...current.map((member) => `${member.name}=${member.peerUrl}`), `${name}=${peerUrl}`]
    const member = makeMember(environment, name, memberPorts, initialCluster.join(","), "existing")
    current = [...current, member]
    yield* member.start
    return member
  })

  const memberRemove: EtcdClusterService["memberRemove"] = Effect.fnUntraced(function*(member: Member) {
    const internal = current.find((candidate) => candidate === member)
    if (internal === undefined) return yield* failure("memberRemove", `${member.name} is not a member`)
    const id = yield* memberId(internal)
    const others = responsive().find((candidate) => candidate !== member)
    yield* whenSettled(etcdctl(["member", "remove", id], others === undefined ? {} : { endpoint: others.endpoint }))
    current = current.filter((candidate) => candidate !== member)
    yield* internal.discard
  })

  /** The id of a member: from itself, or from the others if it is down and its id is not known yet. */
  const memberId = (member: MemberInternal) =>
    member.id.pipe(
      Effect.catch(() =>
        Effect.flatMap(etcdctl(["member", "list", "-w", "simple"]), (text) => {
          const line = text.split("\n").find((line) => line.includes(member.peerUrl))
          return line === undefined
            ? Effect.fail(failure("memberRemove", `${member.name} is not listed`))
            : Effect.succeed(line.split(",")[0]!.trim())
        })
      )
    )

  const metrics: EtcdClusterService["metrics"] = (member = initial[0]!) =>
    Effect.suspend(() => {
      const internal = current.find((candidate) => candidate === member)
      return internal === undefined
        ? Effect.fail(failure("metrics", `${member.name} is not a member`))
        : httpGet(`${internal.metricsUrl}/metrics`, 5000)
    }).pipe(
      Effect.flatMap((response) =>
        response?.status === 200
          ? Effect.succeed(parseMetrics(response.body))
          : Effect.fail(failure("metrics", `${member.name} did not respond`))
      ),
      realTime
    )

  const changeNetwork = Effect.fnUntraced(function*(change: "isolate" | "rejoin", member: Member) {
    const internal = current.find((candidate) => candidate === member)
    if (environment.peers === undefined) return yield* failure(change, "the cluster was made without `isolatable`")
    if (internal === undefined) return yield* failure(change, `${member.name} is not a member`)
    yield* environment.peers[change]({ id: yield* internal.id, port: internal.peerPort })
  })

  return {
    version: binaries.version,
    directory: guardian.directory,
    members: initial,
    member: initial[0]!,
    endpoints: initial.map((member) => member.endpoint),
    currentMembers: Effect.sync(() => current),
    etcdctl,
    awaitHealthy,
    killAll: Effect.suspend(() =>
      Effect.forEach(current, (member) => member.kill, { concurrency: "unbounded", discard: true })
    ),
    startAll: Effect.suspend(() =>
      Effect.forEach(current, (member) => member.start, { concurrency: "unbounded", discard: true })
    ),
    revision: Effect.flatMap(
      etcdctl(["get", "any", "--keys-only", "-w", "json"]),
      (text) => Effect.map(decodeHeader(text), ({ header }) => BigInt(header.revision))
    ),
    compact: (revision) =>
      etcdctl(["compact", String(revision), "--physical", "--command-timeout=60s"]).pipe(
        Effect.asVoid,
        // etcdctl retries if the response is slow, and then fails because the first request succeeded.
        Effect.catchIf(
          (error) => error.message.includes("required revision has been compacted"),
          () => Effect.void
        )
      ),
    defragment: Effect.suspend(() =>
      Effect.forEach(responsive(), (member) => etcdctl(["defrag"], { endpoint: member.endpoint }), { discard: true })
    ),
    leader,
    moveLeader,
    memberAdd,
    memberRemove,
    isolate: (member) => changeNetwork("isolate", member),
    rejoin: (member) => changeNetwork("rejoin", member),
    enableAuth: (options) =>
      Effect.tap(
        enableAuth(etcdctl, options),
        () => Effect.sync(() => (environment.rootPassword = options.rootPassword))
      ),
    metrics,
    wipe: Effect.asVoid(etcdctl(["del", "", "--prefix"])),
    watchFrom: (revision = 1n) => watchFrom(environment, () => current.map((member) => member.endpoint), revision)
  }
}

const decodeHeader = decode(
  "etcdctl get",
  Schema.Struct({ header: Schema.Struct({ revision: Schema.String }) })
)
