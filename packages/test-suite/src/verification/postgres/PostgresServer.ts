/**
 * A real Postgres server for tests, on a free loopback port, with its own data.
 *
 * It can be killed, paused and started again. Its processes and files belong to a scope: they are removed when it closes,
 * and also if the process that owns it is killed. All waiting is in real time, whichever clock the test uses.
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Guardian from "../etcd/Guardian.ts"
import { freePort, releasePort } from "../internal/ports.ts"
import { realTime } from "../internal/realTime.ts"
import { accepts, asUnprivileged, isReachable, isRoot, unprivileged } from "./processes.ts"
import * as smallDisk from "./smallDisk.ts"

/**
 * The server could not be started.
 *
 * @since 0.1.0
 */
export class PostgresServerError extends Data.TaggedError("PostgresServerError")<{
  readonly message: string
  readonly cause?: unknown
}> {}

/**
 * Options of a server.
 *
 * @since 0.1.0
 */
export interface Options {
  /** Further settings of the server, such as `{ "max_connections": "20" }`. */
  readonly settings?: Readonly<Record<string, string>> | undefined
  /**
   * Makes the server a streaming replica of another one, which is restarted for it. `port` is the port that it streams
   * from, such as that of a proxy. Default: that of the other server. `select pg_promote()` makes it a primary.
   */
  readonly standbyOf?:
    | { readonly server: typeof PostgresServer.Service; readonly port?: number | undefined }
    | undefined
  /**
   * Keeps the server's data, or its log of writes (WAL), on a file system of this size in memory, which only its
   * processes see. It needs Linux, util-linux, and a kernel that lets users create namespaces.
   */
  readonly disk?: { readonly of: "data" | "log"; readonly megabytes: number } | undefined
}

/**
 * A running server. Its superuser is `postgres`, without a password, and so is its database.
 *
 * @since 0.1.0
 */
export class PostgresServer extends Context.Service<PostgresServer, {
  readonly host: string
  readonly port: number
  /** `postgres://postgres@127.0.0.1:PORT/postgres` */
  readonly url: string
  /** The process id of the server; `undefined` if it is not running. */
  readonly pid: Effect.Effect<number | undefined>
  /** The directory of its data. */
  readonly data: string
  /** Ends all sessions and stops the server in order, with nothing lost. */
  readonly stop: Effect.Effect<void>
  /** Sends SIGKILL to the server and waits until it and its processes have ended. */
  readonly kill: Effect.Effect<void, PostgresServerError>
  /** Starts the server if it is not running, and waits until it accepts connections. */
  readonly start: Effect.Effect<void, PostgresServerError>
  /** `kill`, then `start`. */
  readonly restart: Effect.Effect<void, PostgresServerError>
  /** Sends SIGSTOP to the server and all its processes. */
  readonly pause: Effect.Effect<void>
  /** Sends SIGCONT to all that `pause` has stopped. */
  readonly resume: Effect.Effect<void>
  /** Fills the file system of the option `disk` until nothing more can be written. */
  readonly fillDisk: Effect.Effect<void, PostgresServerError>
  /** Frees what `fillDisk` has taken. */
  readonly freeDisk: Effect.Effect<void, PostgresServerError>
  /** The log of the server. */
  readonly log: Effect.Effect<string>
}>()("@effect-kv/test-suite/PostgresServer") {}

/**
 * Starts a server that runs until the scope closes.
 *
 * **Details**
 *
 * The environment variable `EFFECT_KV_POSTGRES` names the directory of the binaries; `npm test` sets it. Postgres refuses
 * to run as root, so then it runs as the user `nobody`, by `setpriv` of util-linux.
 *
 * @example
 * ```ts norun
 * import { PostgresServer } from "@effect-kv/test-suite/verification"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const server = yield* PostgresServer.make()
 *   yield* Effect.log(server.url)
 * })
 * ```
 *
 * @since 0.1.0
 */
export const make = (
  options: Options = {}
): Effect.Effect<typeof PostgresServer.Service, PostgresServerError, Scope.Scope> => realTime(makeServer(options))

/**
 * A server shared by the tests of a file: `layer(PostgresServer.layer())("...", (it) => ...)`.
 *
 * @example
 * ```ts norun
 * import { PostgresServer } from "@effect-kv/test-suite/verification"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const server = yield* PostgresServer.PostgresServer
 *   yield* server.restart
 * }).pipe(Effect.provide(PostgresServer.layer()))
 * ```
 *
 * @since 0.1.0
 */
export const layer = (options: Options = {}): Layer.Layer<PostgresServer, PostgresServerError> =>
  Layer.effect(PostgresServer, make(options))

const failure = (message: string, cause?: unknown): PostgresServerError => new PostgresServerError({ message, cause })

/** Data that is lost with the machine is fine: tests kill processes. */
const settings: Readonly<Record<string, string>> = {
  listen_addresses: "127.0.0.1",
  unix_socket_directories: "",
  fsync: "off",
  full_page_writes: "off",
  max_connections: "300",
  shared_buffers: "32MB",
  max_wal_size: "256MB",
  // Files in the data directory, so that a server that is killed leaves no shared memory of the system behind.
  dynamic_shared_memory_type: "mmap",
  log_min_messages: "warning"
}

const programsIn = (directory: string) => ({
  directory,
  initdb: Path.resolve(directory, "bin/initdb"),
  postgres: Path.resolve(directory, "bin/postgres")
})

const binaries = Effect.suspend(() => {
  const directory = process.env["EFFECT_KV_POSTGRES"] ?? ""
  const programs = programsIn(Path.resolve(directory))
  return directory !== "" && Fs.existsSync(programs.initdb) && Fs.existsSync(programs.postgres)
    ? Effect.succeed(programs)
    : Effect.fail(
      failure("EFFECT_KV_POSTGRES must name a directory with bin/initdb and bin/postgres; npm test sets it")
    )
})

const makeServer = Effect.fnUntraced(function*(options: Options) {
  const given = yield* binaries
  const guardian = yield* Effect.mapError(
    Guardian.make("effect-kv-postgres"),
    ({ cause, message }) => failure(message, cause)
  )
  const port = yield* Effect.acquireRelease(freePort, releasePort)
  const home = Path.join(guardian.directory, "server")
  const data = Path.join(home, "data")
  const wal = Path.join(home, "wal")
  const logFile = Path.join(guardian.directory, "postgres.log")
  yield* Effect.sync(() => {
    const directories = options.disk === undefined ? [home] : [home, data, wal]
    for (const directory of directories) Fs.mkdirSync(directory, { mode: 0o700 })
    if (!isRoot()) return
    Fs.chmodSync(guardian.directory, 0o711)
    for (const directory of directories) Fs.chownSync(directory, unprivileged, unprivileged)
  })
  const mountPoint = options.disk?.of === "data" ? data : wal
  const disk = options.disk === undefined ? undefined : yield* Effect.mapError(
    smallDisk.make(guardian, { directory: mountPoint, megabytes: options.disk.megabytes }),
    ({ cause, message }) => failure(message, cause)
  )
  if (options.disk !== undefined && disk === undefined) {
    return yield* Effect.fail(failure("the kernel does not let this user create namespaces, or there is no util-linux"))
  }
  // The clone may be in a folder that only root may enter.
  const copy = Path.join(home, "postgres")
  const { initdb, postgres } = !isRoot() || isReachable(given.directory) ? given : yield* Effect.sync(() => {
    Fs.cpSync(given.directory, copy, { recursive: true, verbatimSymlinks: true })
    return programsIn(copy)
  })
  let server: Guardian.Guarded | undefined
  const running = () => server !== undefined && server.ended() === undefined ? server : undefined

  yield* Effect.addFinalizer(() =>
    realTime(Effect.suspend(() => {
      const guarded = running()
      if (guarded === undefined) return Effect.sync(() => removeSegment(disk?.outside(data) ?? data))
      // An immediate shutdown, so that the server removes its shared memory.
      return Effect.andThen(guarded.signal("SIGQUIT"), Effect.timeoutOption(guarded.end, "5 seconds"))
    }))
  )

  const log = Effect.sync(() => Fs.existsSync(logFile) ? Fs.readFileSync(logFile, "utf8").slice(-4000) : "")

  const spawn = (command: string, args: ReadonlyArray<string>) =>
    Effect.suspend(() => {
      const file = Fs.openSync(logFile, "a")
      return guardian.spawn({
        ...(disk?.inside ?? asUnprivileged)(command, args),
        env: { LC_ALL: "C", TZ: "UTC" },
        stdio: ["ignore", file, file]
      }).pipe(
        Effect.mapError(({ cause, message }) => failure(message, cause)),
        Effect.ensuring(Effect.sync(() => Fs.closeSync(file)))
      )
    })

  const launch = Effect.gen(function*() {
    const flags = { ...settings, port: `${port}`, ...replication(options), ...options.settings }
    server = yield* spawn(postgres, ["-D", data, ...Object.entries(flags).flatMap(([k, v]) => ["-c", `${k}=${v}`])])
    const ended = Effect.flatMap(
      server.end,
      ({ code, signal }) =>
        Effect.flatMap(log, (log) => Effect.fail(failure(`postgres exited (${signal ?? code}):\n${log}`)))
    )
    const accepting = Effect.repeat(accepts(port), { until: (yes) => yes, schedule: Schedule.spaced("15 millis") })
    yield* Effect.raceFirst(Effect.asVoid(accepting), ended).pipe(
      Effect.timeoutOrElse({
        duration: "30 seconds",
        orElse: () =>
          Effect.flatMap(log, (log) => Effect.fail(failure(`postgres does not accept connections:\n${log}`)))
      })
    )
  })

  /** A server that was killed leaves processes that end by themselves, and hold its shared memory until then. */
  const start = Effect.suspend(() =>
    running() !== undefined ? Effect.void : Effect.retry(launch, {
      while: ({ message }) => message.includes("is still in use") || message.includes("Address already in use"),
      schedule: Schedule.spaced("50 millis"),
      times: 200
    })
  ).pipe(realTime)

  const kill = Effect.suspend(() => {
    const guarded = running()
    if (guarded === undefined) return Effect.void
    const descendants = childrenOf(guarded.pid)
    const gone = Effect.repeat(
      Effect.sync(() => descendants.every((pid) => !isAlive(pid))),
      { until: (yes) => yes, schedule: Schedule.spaced("5 millis") }
    )
    return guarded.signal("SIGKILL").pipe(
      Effect.andThen(guarded.end),
      Effect.andThen(Effect.sync(() => descendants.forEach((pid) => send(pid, "SIGKILL")))),
      Effect.andThen(Effect.timeoutOption(gone, "10 seconds")),
      Effect.asVoid
    )
  }).pipe(realTime)

  const signalAll = (signal: NodeJS.Signals) =>
    Effect.sync(() => {
      const guarded = running()
      if (guarded === undefined) return
      for (const pid of [guarded.pid, ...childrenOf(guarded.pid)]) send(pid, signal)
    })

  const stop = Effect.suspend(() => {
    const guarded = running()
    return guarded === undefined ? Effect.void : Effect.andThen(guarded.signal("SIGINT"), Effect.asVoid(guarded.end))
  }).pipe(realTime)

  const succeed = Effect.fnUntraced(function*(command: string, args: ReadonlyArray<string>) {
    const { code } = yield* (yield* spawn(command, args)).end
    if (code !== 0) return yield* Effect.fail(failure(`${Path.basename(command)} failed:\n${yield* log}`))
  })

  const ballast = Path.join(mountPoint, "ballast")
  const onDisk = (script: string) =>
    disk === undefined
      ? Effect.fail(failure("the server has no disk of its own: set the option disk"))
      : succeed("sh", ["-c", script, "sh", ballast])

  if (options.standbyOf === undefined) {
    yield* succeed(initdb, ["-D", data, ...disk === undefined ? [] : ["--waldir", wal], ...cluster])
  } else {
    const { server: primary } = options.standbyOf
    yield* primary.stop
    yield* succeed("cp", ["-a", primary.data, data])
    yield* succeed("touch", [Path.join(data, "standby.signal")])
    yield* primary.start
  }
  yield* start
  return PostgresServer.of({
    host: "127.0.0.1",
    port,
    url: `postgres://postgres@127.0.0.1:${port}/postgres`,
    pid: Effect.sync(() => running()?.pid),
    data,
    stop,
    kill,
    start,
    restart: Effect.andThen(kill, start),
    pause: signalAll("SIGSTOP"),
    resume: signalAll("SIGCONT"),
    // It ends with an error, as it is to.
    fillDisk: realTime(onDisk("dd if=/dev/zero of=\"$1\" bs=4096 2> /dev/null; test -s \"$1\"")),
    freeDisk: realTime(onDisk("rm -f \"$1\"")),
    log
  })
})

/** How data is created: for the superuser `postgres`, without passwords. */
const cluster = [
  "--username=postgres",
  "--auth=trust",
  "--encoding=UTF8",
  "--no-locale",
  "--no-sync",
  "--no-instructions"
]

const replication = ({ standbyOf }: Options): Readonly<Record<string, string>> =>
  standbyOf === undefined ? {} : {
    primary_conninfo: `host=127.0.0.1 port=${standbyOf.port ?? standbyOf.server.port} user=postgres`,
    wal_retrieve_retry_interval: "100ms"
  }

/** Removes the shared memory of a server that was killed. Its id is in the seventh line of the server's lock file. */
const removeSegment = (data: string): void => {
  const file = Path.join(data, "postmaster.pid")
  if (!Fs.existsSync(file)) return
  const id = Fs.readFileSync(file, "utf8").split("\n")[6]?.trim().split(/\s+/)[1]
  if (id !== undefined) ChildProcess.spawnSync("ipcrm", ["-m", id], { stdio: "ignore" })
}

/** The processes that a process has started, from Linux's `/proc`. */
const childrenOf = (pid: number): ReadonlyArray<number> => {
  try {
    return Fs.readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").filter((id) => id !== "").map(
      Number
    )
  } catch {
    return []
  }
}

const send = (pid: number, signal: NodeJS.Signals): void => {
  try {
    process.kill(pid, signal)
  } catch {
    // It has ended.
  }
}

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
