/**
 * A member of an etcd cluster: one server process that can be started, signalled and watched for health.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { freePort } from "../internal/ports.ts"
import { realTime } from "../internal/realTime.ts"
import type { Environment, Tls } from "./environment.ts"
import { type EtcdClusterError, failure, fromGuardian } from "./EtcdClusterError.ts"
import { statusOf } from "./etcdctl.ts"
import type * as Guardian from "./Guardian.ts"
import { httpGet } from "./httpGet.ts"

/**
 * One server process. Its data and its ports survive restarts.
 *
 * @since 0.1.0
 */
export interface Member {
  readonly name: string
  readonly endpoint: string
  readonly clientPort: number
  /** Lower-case hexadecimal, as in `etcdctl`. The first read needs a running member. */
  readonly id: Effect.Effect<string, EtcdClusterError>
  /** The id of the process, `undefined` if it is not running. */
  readonly pid: Effect.Effect<number | undefined>
  /** True while the process exists, even if it is paused. */
  readonly isRunning: Effect.Effect<boolean>
  /** True if it serves linearizable reads, which need a leader and a quorum. */
  readonly isHealthy: Effect.Effect<boolean>
  readonly awaitHealthy: Effect.Effect<void, EtcdClusterError>
  /** Sends SIGKILL and waits for the process to exit. */
  readonly kill: Effect.Effect<void>
  /** Sends SIGTERM and waits for the process to exit. In this orderly shutdown a leader first transfers its leadership. */
  readonly stop: Effect.Effect<void>
  /** Starts the process on its data and ports, and waits until its ports are open. A quorum may come much later. */
  readonly launch: Effect.Effect<void, EtcdClusterError>
  /** `launch`, then waits until the member is healthy. A running member is not restarted. */
  readonly start: Effect.Effect<void, EtcdClusterError>
  /** `kill`, then `start`. */
  readonly restart: Effect.Effect<void, EtcdClusterError>
  /** Sends SIGSTOP and waits until the process has stopped. The kernel still accepts connections and bytes for it. */
  readonly pause: Effect.Effect<void>
  /** Sends SIGCONT. */
  readonly resume: Effect.Effect<void>
  /** The beginning and the end of the log since the last start. */
  readonly log: Effect.Effect<string>
}

export interface MemberInternal extends Member {
  readonly peerUrl: string
  readonly peerPort: number
  readonly metricsUrl: string
  /** Whether it is running and not paused. */
  readonly canRespond: () => boolean
  /** Kills the process and deletes its data. */
  readonly discard: Effect.Effect<void>
}

export interface MemberPorts {
  readonly client: number
  /** The port that it advertises. */
  readonly peer: number
  /** The port that it listens on. */
  readonly peerListener: number
  readonly metrics: number
}

export const allocatePorts = Effect.fnUntraced(function*(all: Set<number>, isolatable: boolean) {
  const peer = yield* freePort
  const peerListener = isolatable ? yield* freePort : peer
  const ports: MemberPorts = { client: yield* freePort, peer, peerListener, metrics: yield* freePort }
  for (const port of Object.values(ports)) all.add(port)
  return ports
})

export const peerUrlOf = (ports: MemberPorts) => `http://127.0.0.1:${ports.peer}`

export const makeMember = (
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
  const isUp = Effect.map(httpGet(`${metricsUrl}/health`, 1000), (response) => response !== undefined)
  const isHealthy = realTime(
    Effect.map(
      httpGet(`${metricsUrl}/health`, 2000),
      (response) => response?.status === 200 && response.body.includes(`"health":"true"`)
    )
  )
  const log = Effect.sync(() => excerptOf(logFile))

  /** Polls a condition; fails at once if the process exits. */
  const pollUntil = (operation: string, condition: Effect.Effect<boolean>): Effect.Effect<void, EtcdClusterError> =>
    Effect.suspend(() => {
      const guarded = running()
      if (guarded === undefined) return Effect.fail(failure(operation, `${name} is not running`))
      const ended = Effect.flatMap(guarded.end, (ended) =>
        Effect.flatMap(log, (log) => {
          const taken = log.includes("address already in use")
          const how = ended.signal ?? `exit code ${ended.code}`
          return Effect.fail(failure(taken ? "bind" : operation, `${name} exited (${how}):\n${log}`))
        }))
      const polling = Effect.repeat(condition, { until: (value) => value, schedule: Schedule.spaced("15 millis") })
      return Effect.raceFirst(Effect.asVoid(polling), ended)
    }).pipe(
      Effect.timeoutOrElse({
        duration: startTimeout,
        orElse: () =>
          Effect.flatMap(
            log,
            (log) =>
              Effect.fail(
                failure(operation, `the condition did not hold for ${name} within the start timeout:\n${log}`)
              )
          )
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
      "listen-peer-urls": `http://127.0.0.1:${ports.peerListener}`,
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
    yield* environment.peers?.open(ports.peer, ports.peerListener) ?? Effect.void
    // The process writes to the file itself, so no reader can block it.
    const file = yield* Effect.sync(() => Fs.openSync(logFile, "w"))
    process = yield* guardian.spawn({
      command: binaries.etcd,
      args: Object.entries(flags).map(([flag, value]) => `--${flag}=${value}`),
      // etcd 3.4 requires this on architectures other than x64.
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
  /** After the first start the ports are fixed, so a relaunch waits until another process has released them. */
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
    peerPort: ports.peer,
    metricsUrl,
    id: Effect.suspend(() =>
      knownId !== undefined
        ? Effect.succeed(knownId)
        : Effect.tap(Effect.map(statusOf(environment, endpoint), (status) => status.id.toString(16)), (id) =>
          Effect.sync(() => (knownId = id)))
    ),
    pid: Effect.sync(() => running()?.pid),
    isRunning: Effect.sync(() => running() !== undefined),
    isHealthy: Effect.suspend(() => running() === undefined || paused ? Effect.succeed(false) : isHealthy),
    awaitHealthy,
    canRespond: () => running() !== undefined && !paused,
    kill,
    // A stopped process handles SIGTERM only after SIGCONT.
    stop: Effect.andThen(resume, endWith("SIGTERM")),
    launch: launchOrRelaunch,
    start,
    restart: Effect.andThen(kill, start),
    pause: Effect.suspend(() => {
      const server = running()
      paused = true
      if (server === undefined) return Effect.void
      // Resuming or killing the process meanwhile also ends the wait.
      const isOver = Effect.sync(() => !paused || running() !== server || hasStopped(server.pid))
      const stopped = Effect.repeat(isOver, { until: (over) => over, schedule: Schedule.spaced("1 millis") })
      return Effect.andThen(server.signal("SIGSTOP"), realTime(Effect.asVoid(stopped)))
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
    // etcd names an unknown flag first, before pages of help.
    return lines.length <= 40 ? lines.join("\n") : [...lines.slice(0, 10), "...", ...lines.slice(-30)].join("\n")
  } catch {
    return ""
  }
}

/**
 * Whether each thread of the process has stopped. SIGSTOP is delivered to threads asynchronously, so they may still run
 * when `kill` returns. Without `/proc` there is no way to check.
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
