/**
 * Real etcd servers for tests: one or three members on free loopback ports, with their own data.
 *
 * Members can be killed, stopped, paused, started again, added and removed, and the store can be looked at and changed by
 * `etcdctl`, which shares no code with this project. Everything belongs to a scope; processes and files are gone when it
 * closes, and also when the process that holds it is killed. All waiting is in real time, whatever clock a test runs on.
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Readline from "node:readline"
import { freePort, releasePort } from "../internal/ports.ts"
import { realTime } from "../internal/realTime.ts"
import type * as TestCertificates from "../TestCertificates.ts"
import * as EtcdBinaries from "./EtcdBinaries.ts"
import * as Guardian from "./Guardian.ts"
import { httpGet } from "./httpGet.ts"

/**
 * Something that was asked of the cluster did not happen. The message ends with what the server or `etcdctl` said.
 */
export class EtcdClusterError extends Data.TaggedError("EtcdClusterError")<{
  readonly operation: string
  readonly message: string
  readonly cause?: unknown
}> {}

/** How a cluster is made. */
export interface Options {
  /** By default the version under test, see `EtcdBinaries.currentVersion`. */
  readonly version?: EtcdBinaries.Version | undefined
  /** By default 1. */
  readonly members?: 1 | 3 | undefined
  /** Further flags of `etcd`, without the dashes: `{ "auth-token-ttl": 4, "max-txn-ops": 256 }`. */
  readonly flags?: Readonly<Record<string, string | number | boolean>> | undefined
  /** Serves clients over TLS. Members talk to each other in plain text. */
  readonly tls?: Tls | undefined
  /** How long members may take until they serve; by default 30 seconds. */
  readonly startTimeout?: Duration.Input | undefined
}

/** TLS between clients and members. */
export interface Tls {
  /** What the members show to clients. */
  readonly server: TestCertificates.Certificate
  /** Who signed the client's certificate, and, for `etcdctl`, the server's. */
  readonly ca: TestCertificates.Certificate
  /** Shown by `etcdctl`. If given, members demand a certificate from every client. */
  readonly client?: TestCertificates.Certificate | undefined
}

/** One server process with its data and its ports, which survive its restarts. */
export interface Member {
  readonly name: string
  readonly endpoint: string
  readonly clientPort: number
  /** Lower-case hexadecimal, as in `etcdctl`. Known only while it runs. */
  readonly id: Effect.Effect<string, EtcdClusterError>
  /** The process's id, `undefined` when it does not run. */
  readonly pid: Effect.Effect<number | undefined>
  /** True while there is a process, even a paused one. */
  readonly isRunning: Effect.Effect<boolean>
  /** True when it serves linearizable reads, which takes a leader and a quorum. */
  readonly isHealthy: Effect.Effect<boolean>
  readonly awaitHealthy: Effect.Effect<void, EtcdClusterError>
  /** `kill -9`; returns when the process is gone. */
  readonly kill: Effect.Effect<void>
  /** SIGTERM: an orderly shutdown, in which a leader hands over first; returns when the process is gone. */
  readonly stop: Effect.Effect<void>
  /** Starts it on its old data and ports; returns when its ports are open, which may be long before there is a quorum. */
  readonly launch: Effect.Effect<void, EtcdClusterError>
  /** `launch`, then waits until it is healthy. Does nothing to a member that runs. */
  readonly start: Effect.Effect<void, EtcdClusterError>
  /** `kill`, then `start`. */
  readonly restart: Effect.Effect<void, EtcdClusterError>
  /** SIGSTOP: the kernel still accepts connections and bytes, nobody answers. Returns when the process has stopped. */
  readonly pause: Effect.Effect<void>
  /** SIGCONT. */
  readonly resume: Effect.Effect<void>
  /** What it wrote to its log since it was started last: the beginning and the end. */
  readonly log: Effect.Effect<string>
}

/** What a user may do. A prefix of `""` is every key. */
export type Permission =
  & { readonly permission: "read" | "write" | "readwrite" }
  & ({ readonly key: string } | { readonly prefix: string })

/** A user of the store. Without a password it can only come with a certificate of its name. */
export interface User {
  readonly name: string
  readonly password?: string | undefined
  readonly permissions?: ReadonlyArray<Permission> | undefined
}

/** A member's metrics at one moment. */
export interface Metrics {
  /** The sum of all series of this name, whatever their labels; 0 when there is none. */
  readonly get: (name: string) => number
  /** Every series by its full name, `name{label="value"}`. */
  readonly series: ReadonlyMap<string, number>
}

/** One change, as the store itself reports it. */
export interface HistoryEvent {
  readonly type: "put" | "delete"
  readonly key: string
  /** Empty for a delete. */
  readonly value: string
  readonly valueBytes: Uint8Array
  readonly modRevision: bigint
  /** 0 for a delete, like `version` and `lease`. */
  readonly createRevision: bigint
  readonly version: bigint
  readonly lease: bigint
}

/** A recording of all changes, made by `etcdctl watch`. */
export interface History {
  /**
   * Waits for `revision` to be recorded, then gives the changes up to and including it, in order. Fails when the recording
   * broke off, for instance because the history had been compacted, or does not get there within 60 seconds.
   */
  readonly upTo: (revision: bigint) => Effect.Effect<ReadonlyArray<HistoryEvent>, EtcdClusterError>
}

/** How `etcdctl` is run. */
export interface EtcdctlOptions {
  readonly stdin?: string | undefined
  readonly env?: Readonly<Record<string, string>> | undefined
  /** By default all members that run. */
  readonly endpoint?: string | undefined
}

/** A running cluster. */
export class EtcdCluster extends Context.Service<EtcdCluster, {
  readonly version: EtcdBinaries.Version
  /** Its own directory, for whatever else a test needs to put in a file. */
  readonly directory: string
  /** The members it began with, in order. */
  readonly members: ReadonlyArray<Member>
  /** Their endpoints. */
  readonly endpoints: ReadonlyArray<string>
  /** The first member, for tests that use a single server. */
  readonly member: Member
  /** The members it consists of now, including those added and without those removed. */
  readonly currentMembers: Effect.Effect<ReadonlyArray<Member>>
  /** Runs `etcdctl` and gives what it printed. After `enableAuth` it is root. */
  readonly etcdctl: (args: ReadonlyArray<string>, options?: EtcdctlOptions) => Effect.Effect<string, EtcdClusterError>
  /** Waits until all members that run are healthy. */
  readonly awaitHealthy: Effect.Effect<void, EtcdClusterError>
  /** `kill -9` of all members at once. */
  readonly killAll: Effect.Effect<void>
  /** Starts all that do not run and waits until all are healthy. */
  readonly startAll: Effect.Effect<void, EtcdClusterError>
  /** The store's revision. */
  readonly revision: Effect.Effect<bigint, EtcdClusterError>
  /** Forgets the history before `revision`, and returns when it is forgotten. */
  readonly compact: (revision: bigint) => Effect.Effect<void, EtcdClusterError>
  /** Defragments every member that runs, one after the other. */
  readonly defragment: Effect.Effect<void, EtcdClusterError>
  /** The leader that a running member names for the highest term; waits while there is none. */
  readonly leader: Effect.Effect<Member, EtcdClusterError>
  /** Hands leadership to `to`, by default to some other member, and returns the new leader. */
  readonly moveLeader: (to?: Member) => Effect.Effect<Member, EtcdClusterError>
  /** Adds a new, empty member and waits until it is healthy. */
  readonly memberAdd: Effect.Effect<Member, EtcdClusterError>
  /** Removes a member from the cluster, and its process. */
  readonly memberRemove: (member: Member) => Effect.Effect<void, EtcdClusterError>
  /** Turns authentication on. `etcdctl` is root from here on. */
  readonly enableAuth: (options: {
    readonly rootPassword: string
    readonly users?: ReadonlyArray<User> | undefined
  }) => Effect.Effect<void, EtcdClusterError>
  /** A member's metrics, by default those of the first. */
  readonly metrics: (member?: Member) => Effect.Effect<Metrics, EtcdClusterError>
  /** Deletes all keys. */
  readonly wipe: Effect.Effect<void, EtcdClusterError>
  /** Records all changes from `revision` on (by default 1), until the scope closes. Goes on across restarts of members. */
  readonly watchFrom: (revision?: bigint) => Effect.Effect<History, EtcdClusterError, Scope.Scope>
}>()("@effect-kv/test-suite/EtcdCluster") {}

type EtcdClusterService = EtcdCluster["Service"]

/**
 * Starts a cluster, which runs until the scope closes.
 */
export const make = (
  options: Options = {}
): Effect.Effect<
  EtcdClusterService,
  EtcdClusterError | EtcdBinaries.EtcdBinariesMissing,
  Scope.Scope
> => realTime(makeCluster(options))

/**
 * A cluster that the tests of a file share: `layer(EtcdCluster.layer())("...", (it) => ...)`.
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
    rootPassword: undefined
  }
  const ports = new Set<number>()
  yield* Effect.addFinalizer(() => Effect.forEach(ports, releasePort))

  const members = yield* bootstrap(environment, ports).pipe(
    // Another process took one of the ports between choosing and binding it. All is thrown away and begun again.
    Effect.retry({ while: (error) => error.operation === "bind", times: 10 }),
    Effect.timeoutOrElse({
      duration: environment.startTimeout,
      orElse: () => Effect.fail(failure("make", "the cluster did not become healthy in time"))
    })
  )
  return assemble(environment, members, ports)
})

interface Environment {
  readonly binaries: EtcdBinaries.EtcdBinaries
  readonly guardian: Guardian.Guardian
  readonly options: Options
  readonly startTimeout: Duration.Input
  /** Set once authentication is on. */
  rootPassword: string | undefined
}

// -----------------------------------------------------------------------------
// members
// -----------------------------------------------------------------------------

interface MemberInternal extends Member {
  readonly peerUrl: string
  readonly metricsUrl: string
  /** Whether it runs and is not paused: whether it is worth asking. */
  readonly answers: () => boolean
  readonly discard: Effect.Effect<void>
}

interface MemberPorts {
  readonly client: number
  readonly peer: number
  readonly metrics: number
}

const allocatePorts = Effect.fnUntraced(function*(all: Set<number>) {
  const ports = { client: yield* freePort, peer: yield* freePort, metrics: yield* freePort }
  for (const port of Object.values(ports)) all.add(port)
  return ports
})

const peerUrlOf = (ports: MemberPorts) => `http://127.0.0.1:${ports.peer}`

const bootstrap = Effect.fnUntraced(function*(environment: Environment, allPorts: Set<number>) {
  const names = environment.options.members === 3 ? ["m1", "m2", "m3"] : ["m1"]
  const planned = yield* Effect.forEach(
    names,
    (name) => Effect.map(allocatePorts(allPorts), (ports) => ({ name, ports }))
  )
  const initialCluster = planned.map(({ name, ports }) => `${name}=${peerUrlOf(ports)}`).join(",")
  const members = planned.map(({ name, ports }) => makeMember(environment, name, ports, initialCluster, "new"))
  yield* Effect.forEach(members, (member) => member.launch, { concurrency: "unbounded" }).pipe(
    Effect.andThen(Effect.forEach(members, (member) => member.awaitHealthy, { concurrency: "unbounded" })),
    Effect.onError(() => Effect.forEach(members, (member) => member.discard, { concurrency: "unbounded" }))
  )
  return members
})

const makeMember = (
  environment: Environment,
  name: string,
  ports: MemberPorts,
  initialCluster: string,
  initialState: "new" | "existing"
): MemberInternal => {
  const { binaries, guardian, options, startTimeout } = environment
  const endpoint = `${options.tls === undefined ? "http" : "https"}://127.0.0.1:${ports.client}`
  const peerUrl = peerUrlOf(ports)
  const metricsUrl = `http://127.0.0.1:${ports.metrics}`
  const dataDirectory = Path.join(guardian.directory, name)
  const logFile = Path.join(guardian.directory, `${name}.log`)
  let process: Guardian.Guarded | undefined
  let paused = false
  let knownId: string | undefined

  const running = () => process !== undefined && process.ended() === undefined ? process : undefined
  const isUp = Effect.map(httpGet(`${metricsUrl}/health`, 1000), (answer) => answer !== undefined)
  const isHealthy = realTime(
    Effect.map(
      httpGet(`${metricsUrl}/health`, 2000),
      (answer) => answer?.status === 200 && answer.body.includes(`"health":"true"`)
    )
  )
  const log = Effect.sync(() => excerptOf(logFile))

  /** Polls, but gives up at once when the process ends. */
  const pollUntil = (operation: string, condition: Effect.Effect<boolean>): Effect.Effect<void, EtcdClusterError> =>
    Effect.suspend(() => {
      const guarded = running()
      if (guarded === undefined) return Effect.fail(failure(operation, `${name} does not run`))
      const ended = Effect.flatMap(guarded.end, (ended) =>
        Effect.flatMap(log, (log) => {
          const taken = log.includes("address already in use")
          const how = ended.signal ?? `exit code ${ended.code}`
          return Effect.fail(failure(taken ? "bind" : operation, `${name} ended (${how}):\n${log}`))
        }))
      const polling = Effect.repeat(condition, { until: (value) => value, schedule: Schedule.spaced("15 millis") })
      return Effect.raceFirst(Effect.asVoid(polling), ended)
    }).pipe(
      Effect.timeoutOrElse({
        duration: startTimeout,
        orElse: () =>
          Effect.flatMap(log, (log) => Effect.fail(failure(operation, `${name} did not become so in time:\n${log}`)))
      }),
      realTime
    )

  const awaitHealthy = pollUntil("awaitHealthy", isHealthy)

  const spawn = Effect.fnUntraced(function*() {
    const flags: Record<string, string | number | boolean> = {
      "name": name,
      "data-dir": dataDirectory,
      "listen-client-urls": endpoint,
      "advertise-client-urls": endpoint,
      "listen-peer-urls": peerUrl,
      "initial-advertise-peer-urls": peerUrl,
      "initial-cluster": initialCluster,
      "initial-cluster-state": initialState,
      "initial-cluster-token": guardian.directory,
      "listen-metrics-urls": metricsUrl,
      "logger": "zap",
      "log-level": "warn",
      "log-outputs": "stderr",
      ...tlsFlags(options.tls),
      ...options.flags
    }
    // The new process writes to the file itself, so that nobody has to read for it.
    const file = yield* Effect.sync(() => Fs.openSync(logFile, "w"))
    process = yield* guardian.spawn({
      command: binaries.etcd,
      args: Object.entries(flags).map(([flag, value]) => `--${flag}=${value}`),
      // etcd 3.4 refuses to run on other architectures unless told so.
      env: globalThis.process.arch === "x64" ? {} : { ETCD_UNSUPPORTED_ARCH: globalThis.process.arch },
      stdio: ["ignore", file, file]
    }).pipe(
      Effect.mapError(fromGuardian("launch")),
      Effect.ensuring(Effect.sync(() => Fs.closeSync(file)))
    )
    paused = false
  })

  const launch = realTime(
    Effect.suspend(() => running() !== undefined ? Effect.void : Effect.andThen(spawn(), pollUntil("launch", isUp)))
  )
  const relaunch = Effect.retry(launch, {
    while: (error) => error.operation === "bind",
    schedule: Schedule.spaced("100 millis"),
    times: 50
  }).pipe(realTime)
  /** Once it was up, its ports are its own, and whoever uses one meanwhile is waited for. */
  let wasUp = false
  const launchOrRelaunch = Effect.suspend(() =>
    wasUp ? relaunch : Effect.tap(launch, () => Effect.sync(() => (wasUp = true)))
  )

  const endWith = (signal: NodeJS.Signals) =>
    Effect.suspend(() => {
      const guarded = running()
      if (guarded === undefined) return Effect.void
      return Effect.asVoid(Effect.andThen(guarded.signal(signal), guarded.end))
    })
  const kill = endWith("SIGKILL")
  const resume = Effect.suspend(() => {
    paused = false
    return running()?.signal("SIGCONT") ?? Effect.void
  })
  const start = Effect.andThen(launchOrRelaunch, awaitHealthy)

  return {
    name,
    endpoint,
    clientPort: ports.client,
    peerUrl,
    metricsUrl,
    id: Effect.suspend(() =>
      knownId !== undefined
        ? Effect.succeed(knownId)
        : Effect.tap(idOf(environment, endpoint), (id) => Effect.sync(() => (knownId = id)))
    ),
    pid: Effect.sync(() => running()?.pid),
    isRunning: Effect.sync(() => running() !== undefined),
    isHealthy: Effect.suspend(() => running() === undefined || paused ? Effect.succeed(false) : isHealthy),
    awaitHealthy,
    answers: () => running() !== undefined && !paused,
    kill,
    // A stopped process does not see SIGTERM until it goes on.
    stop: Effect.andThen(resume, endWith("SIGTERM")),
    launch: launchOrRelaunch,
    start,
    restart: Effect.andThen(kill, start),
    pause: Effect.suspend(() => {
      const server = running()
      paused = true
      return server === undefined ? Effect.void : Effect.andThen(
        server.signal("SIGSTOP"),
        Effect.suspend(() =>
          paused && running() === server && !hasStopped(server.pid) ? nextLook : Effect.succeed(true)
        )
          .pipe(Effect.repeat({ until: (isOver) => isOver }), Effect.asVoid)
      )
    }),
    resume,
    log,
    discard: Effect.andThen(
      kill,
      Effect.sync(() => Fs.rmSync(dataDirectory, { recursive: true, force: true }))
    )
  }
}

const tlsFlags = (tls: Tls | undefined): Record<string, string | boolean> =>
  tls === undefined ? {} : {
    "cert-file": tls.server.certFile,
    "key-file": tls.server.keyFile,
    ...(tls.client === undefined ? {} : { "client-cert-auth": true, "trusted-ca-file": tls.ca.certFile })
  }

const excerptOf = (file: string): string => {
  try {
    const lines = Fs.readFileSync(file, "utf8").split("\n")
    // A flag that etcd does not know is named first, before pages of help.
    return lines.length <= 40 ? lines.join("\n") : [...lines.slice(0, 10), "...", ...lines.slice(-30)].join("\n")
  } catch {
    return ""
  }
}

// -----------------------------------------------------------------------------
// etcdctl
// -----------------------------------------------------------------------------

const etcdctlEnv = (
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

const runEtcdctl = Effect.fnUntraced(function*(
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

/** Integers become strings: ids and leases do not fit into a number. Keys and values are base64 in quotes, and safe. */
const parseJson = (text: string): unknown => JSON.parse(text.replace(/:(-?\d+)(?=[,}\]])/g, `:"$1"`))

const decode = <A>(operation: string, schema: Schema.Codec<A, unknown>) => {
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
        new EtcdClusterError({ operation, message: `etcdctl printed something else: ${text.slice(0, 500)}`, cause })
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

interface Status {
  readonly id: bigint
  readonly leader: bigint
  readonly term: bigint
  readonly revision: bigint
}

const decodeStatus = decode("etcdctl endpoint status", EndpointStatus)

const statusOf = Effect.fnUntraced(function*(environment: Environment, endpoint: string) {
  const text = yield* runEtcdctl(
    environment,
    ["endpoint", "status", "-w", "json", "--command-timeout", "2s"],
    etcdctlEnv(environment, [endpoint])
  )
  const [first] = yield* decodeStatus(text)
  if (first === undefined) return yield* failure("status", `no status of ${endpoint}`)
  const { header, leader, raftTerm } = first.Status
  const status: Status = {
    id: BigInt(header.member_id),
    leader: BigInt(leader ?? 0),
    term: BigInt(raftTerm),
    revision: BigInt(header.revision)
  }
  return status
})

const idOf = (environment: Environment, endpoint: string) =>
  Effect.map(statusOf(environment, endpoint), (status) => status.id.toString(16))

// -----------------------------------------------------------------------------
// the cluster
// -----------------------------------------------------------------------------

const assemble = (
  environment: Environment,
  initial: ReadonlyArray<MemberInternal>,
  ports: Set<number>
): EtcdClusterService => {
  const { binaries, guardian, startTimeout } = environment
  let current = initial
  let added = 0

  const answering = () => current.filter((member) => member.answers())
  const endpointsToAsk = () => {
    const members = answering()
    return (members.length === 0 ? current : members).map((member) => member.endpoint)
  }

  const etcdctl: EtcdClusterService["etcdctl"] = (args, commandOptions = {}) =>
    Effect.suspend(() => {
      const endpoints = commandOptions.endpoint === undefined ? endpointsToAsk() : [commandOptions.endpoint]
      const env = { ...etcdctlEnv(environment, endpoints), ...commandOptions.env }
      return realTime(runEtcdctl(environment, args, env, commandOptions.stdin))
    })

  /** What the members that answer say, the highest term first. */
  const statuses = Effect.suspend(() =>
    Effect.forEach(
      answering(),
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
      return found === undefined ? Effect.fail(failure("leader", "no member leads")) : Effect.succeed(found.member)
    }),
    Effect.retry({ schedule: Schedule.spaced("50 millis") }),
    Effect.timeoutOrElse({
      duration: startTimeout,
      orElse: () => Effect.fail(failure("leader", "no leader was elected in time"))
    }),
    realTime
  )

  const awaitHealthy = Effect.suspend(() =>
    Effect.forEach(answering(), (member) => member.awaitHealthy, { concurrency: "unbounded", discard: true })
  )

  const moveLeader: EtcdClusterService["moveLeader"] = Effect.fnUntraced(function*(to?: Member) {
    const from = yield* leader
    const target = to ?? answering().find((member) => member !== from)
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

  /** etcd refuses to change its members until all have been connected for five seconds. */
  const whenSettled = <A>(change: Effect.Effect<A, EtcdClusterError>): Effect.Effect<A, EtcdClusterError> =>
    change.pipe(
      Effect.retry({
        while: (error) => error.message.includes("unhealthy cluster"),
        schedule: Schedule.spaced("250 millis")
      }),
      Effect.timeoutOrElse({
        duration: startTimeout,
        orElse: () => Effect.fail(failure("member", "the cluster did not become ready for a change in time"))
      }),
      realTime
    )

  const memberAdd = Effect.gen(function*() {
    const memberPorts = yield* allocatePorts(ports)
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
    const others = answering().find((candidate) => candidate !== member)
    yield* whenSettled(etcdctl(["member", "remove", id], others === undefined ? {} : { endpoint: others.endpoint }))
    current = current.filter((candidate) => candidate !== member)
    yield* internal.discard
  })

  /** From the member itself, or, if it is down and was never asked, from the others. */
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

  const grant = (role: string, permission: Permission) =>
    etcdctl([
      "role",
      "grant-permission",
      role,
      permission.permission,
      ...("key" in permission ? [permission.key] : ["--prefix=true", "--", permission.prefix])
    ])

  const addUser = (user: User) =>
    user.password === undefined
      ? etcdctl(["user", "add", user.name, "--no-password"])
      // Read from its input, the password would end at the first space.
      : etcdctl(["user", "add", user.name, `--new-user-password=${user.password}`])

  const enableAuth: EtcdClusterService["enableAuth"] = Effect.fnUntraced(
    function*({ rootPassword: password, users = [] }) {
      yield* addUser({ name: "root", password })
      yield* etcdctl(["user", "grant-role", "root", "root"]).pipe(
        // Before 3.6 the role may have to be made first.
        Effect.catch(() =>
          Effect.andThen(etcdctl(["role", "add", "root"]), etcdctl(["user", "grant-role", "root", "root"]))
        )
      )
      for (const user of users) {
        const role = `role-of-${user.name}`
        yield* addUser(user)
        yield* etcdctl(["role", "add", role])
        for (const permission of user.permissions ?? []) yield* grant(role, permission)
        yield* etcdctl(["user", "grant-role", user.name, role])
      }
      yield* etcdctl(["auth", "enable"])
      environment.rootPassword = password
    }
  )

  const metrics: EtcdClusterService["metrics"] = (member = initial[0]!) =>
    Effect.suspend(() => {
      const internal = current.find((candidate) => candidate === member)
      return internal === undefined
        ? Effect.fail(failure("metrics", `${member.name} is not a member`))
        : httpGet(`${internal.metricsUrl}/metrics`, 5000)
    }).pipe(
      Effect.flatMap((answer) =>
        answer?.status === 200
          ? Effect.succeed(parseMetrics(answer.body))
          : Effect.fail(failure("metrics", `${member.name} does not answer`))
      ),
      realTime
    )

  const watchFrom: EtcdClusterService["watchFrom"] = Effect.fnUntraced(function*(revision = 1n) {
    const recording = new Recording(revision)
    const spawn = Effect.suspend(() =>
      guardian.spawn({
        command: binaries.etcdctl,
        args: ["watch", `--rev=${recording.next}`, "--prefix", "", "-w", "json"],
        env: etcdctlEnv(environment, current.map((member) => member.endpoint)),
        stdio: ["ignore", "pipe", "pipe"]
      })
    ).pipe(Effect.mapError(fromGuardian("watchFrom")))
    const stop = (guarded: Guardian.Guarded) => Effect.andThen(guarded.signal("SIGKILL"), guarded.end)
    const started = yield* Deferred.make<void, EtcdClusterError>()
    const record = Effect.acquireUseRelease(
      Effect.tap(spawn, () => Deferred.succeed(started, undefined)),
      (guarded) => recording.read(guarded),
      stop
    )
    // etcdctl gives up where its member has no leader. What it printed is whole revisions, so another goes on after them.
    yield* Effect.repeat(record, { while: () => !recording.isBroken, schedule: Schedule.spaced("100 millis") }).pipe(
      Effect.tapError((error) => Effect.andThen(recording.fail(error), Deferred.fail(started, error))),
      Effect.ignore,
      realTime,
      Effect.forkScoped
    )
    yield* Deferred.await(started)
    return recording satisfies History
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
        // etcdctl asks again where the answer takes long, and is told then that it has been done.
        Effect.catchIf(
          (error) => error.message.includes("required revision has been compacted"),
          () => Effect.void
        )
      ),
    defragment: Effect.suspend(() =>
      Effect.forEach(answering(), (member) => etcdctl(["defrag"], { endpoint: member.endpoint }), { discard: true })
    ),
    leader,
    moveLeader,
    memberAdd,
    memberRemove,
    enableAuth,
    metrics,
    wipe: Effect.asVoid(etcdctl(["del", "", "--prefix"])),
    watchFrom
  }
}

const decodeHeader = decode(
  "etcdctl get",
  Schema.Struct({ header: Schema.Struct({ revision: Schema.String }) })
)

const parseMetrics = (text: string): Metrics => {
  const series = new Map<string, number>()
  for (const line of text.split("\n")) {
    const space = line.lastIndexOf(" ")
    if (space > 0 && !line.startsWith("#")) series.set(line.slice(0, space), Number(line.slice(space + 1)))
  }
  return {
    series,
    get: (name) => {
      let sum = 0
      for (const [key, value] of series) if (key === name || key.startsWith(`${name}{`)) sum += value
      return sum
    }
  }
}

// -----------------------------------------------------------------------------
// history
// -----------------------------------------------------------------------------

const WatchLine = Schema.Struct({
  Events: Schema.NullOr(Schema.Array(Schema.Struct({
    type: Schema.optionalKey(Schema.String),
    kv: Schema.Struct({
      key: Schema.String,
      value: Schema.optionalKey(Schema.String),
      mod_revision: Schema.String,
      create_revision: Schema.optionalKey(Schema.String),
      version: Schema.optionalKey(Schema.String),
      lease: Schema.optionalKey(Schema.String)
    })
  })))
})

const decodeWatchLine = Schema.decodeUnknownSync(WatchLine)

const eventsOf = (line: string): ReadonlyArray<HistoryEvent> =>
  (decodeWatchLine(parseJson(line)).Events ?? []).map(({ kv, type }) => {
    const valueBytes = Buffer.from(kv.value ?? "", "base64")
    return {
      type: type === "1" ? "delete" : "put",
      key: Buffer.from(kv.key, "base64").toString("utf8"),
      value: valueBytes.toString("utf8"),
      valueBytes,
      modRevision: BigInt(kv.mod_revision),
      createRevision: BigInt(kv.create_revision ?? 0),
      version: BigInt(kv.version ?? 0),
      lease: BigInt(kv.lease ?? 0)
    }
  })

class Recording implements History {
  readonly #events: Array<HistoryEvent> = []
  readonly #waiting = new Set<() => void>()
  readonly #first: bigint
  #broken: EtcdClusterError | undefined

  constructor(first: bigint) {
    this.#first = first
  }

  /** The first revision that is not recorded. */
  get next(): bigint {
    const last = this.#events.at(-1)?.modRevision
    return last === undefined ? this.#first : last + 1n
  }

  get isBroken(): boolean {
    return this.#broken !== undefined
  }

  /** Takes down what `etcdctl` prints until it ends. Broken is the recording then only if another could not go on. */
  read(guarded: Guardian.Guarded): Effect.Effect<void> {
    return Effect.callback((resume) => {
      let stderr = ""
      guarded.stderr?.setEncoding("utf8").on("data", (chunk: string) => (stderr = (stderr + chunk).slice(-2000)))
      const lines = Readline.createInterface({ input: guarded.stdout! })
      lines.on("line", (line) => this.#take(line))
      lines.on("close", () => {
        if (!isOutOfReach.test(stderr)) this.#break(failure("watchFrom", `etcdctl watch ended: ${stderr.trim()}`))
        resume(Effect.void)
      })
    })
  }

  fail(error: EtcdClusterError): Effect.Effect<void> {
    return Effect.sync(() => this.#break(error))
  }

  upTo(revision: bigint): Effect.Effect<ReadonlyArray<HistoryEvent>, EtcdClusterError> {
    return Effect.callback<ReadonlyArray<HistoryEvent>, EtcdClusterError>((resume) => {
      const check = () => {
        if (this.next > revision) {
          resume(Effect.sync(() => this.#events.filter((event) => event.modRevision <= revision)))
        } else if (this.#broken !== undefined) resume(Effect.fail(this.#broken))
        else return false
        return true
      }
      if (check()) return
      const listener = () => {
        if (check()) this.#waiting.delete(listener)
      }
      this.#waiting.add(listener)
      return Effect.sync(() => this.#waiting.delete(listener))
    }).pipe(
      Effect.timeoutOrElse({
        duration: "60 seconds",
        orElse: () =>
          Effect.fail(failure("watchFrom", `waited for revision ${revision}, recorded up to ${this.next - 1n}`))
      }),
      realTime
    )
  }

  #take(line: string): void {
    if (this.isBroken || line === "") return
    try {
      for (const event of eventsOf(line)) this.#events.push(event)
    } catch (cause) {
      this.#broken = new EtcdClusterError({ operation: "watchFrom", message: "etcdctl printed something else", cause })
    }
    this.#wake()
  }

  #break(error: EtcdClusterError): void {
    this.#broken ??= error
    this.#wake()
  }

  #wake(): void {
    for (const listener of this.#waiting) listener()
  }
}

/** What `etcdctl watch` ends with though the history is there: another one can go on. */
const isOutOfReach = /no leader|connection refused|context deadline exceeded|Unavailable/

const failure = (operation: string, message: string) => new EtcdClusterError({ operation, message })

const fromGuardian = (operation: string) => (error: Guardian.GuardianError) =>
  new EtcdClusterError({ operation, message: error.message, cause: error.cause })

const nextLook = realTime(Effect.delay(Effect.succeed(false), "1 millis"))

/**
 * Whether each thread of the process has stopped: a signal is sent in no time, but threads run on until it is delivered. A system
 * without `/proc` cannot be asked; there the signal is all that can be waited for.
 */
const hasStopped = (pid: number): boolean => {
  try {
    return Fs.readdirSync(`/proc/${pid}/task`).every((thread) =>
      /\) [TtZX]/.test(Fs.readFileSync(`/proc/${pid}/task/${thread}/stat`, "utf8"))
    )
  } catch {
    return true
  }
}
