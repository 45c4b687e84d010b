/**
 * A real PgBouncer for tests, in front of a Postgres server, on a free loopback port.
 *
 * Its process and files belong to a scope: they are removed when it closes, and also if the process that owns it is killed.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Guardian from "../etcd/Guardian.ts"
import { freePort, releasePort } from "../internal/ports.ts"
import { realTime } from "../internal/realTime.ts"
import { accepts, asUnprivileged, isReachable, isRoot, unprivileged } from "./processes.ts"

/**
 * PgBouncer could not be started.
 *
 * @since 0.1.0
 */
export class PgBouncerError extends Data.TaggedError("PgBouncerError")<{
  readonly message: string
  readonly cause?: unknown
}> {}

/**
 * Options of a PgBouncer.
 *
 * @since 0.1.0
 */
export interface Options {
  /** The port of the server on this machine. */
  readonly target: number
  /** When a connection to the server is free for another client: at the end of a client's session or transaction. */
  readonly mode: "session" | "transaction"
  /** Further settings, such as `{ "max_client_conn": "20" }`. */
  readonly settings?: Readonly<Record<string, string>> | undefined
}

/**
 * A running PgBouncer.
 *
 * @since 0.1.0
 */
export interface PgBouncer {
  readonly port: number
  /** `postgres://postgres@127.0.0.1:PORT/postgres` */
  readonly url: string
}

/**
 * Starts a PgBouncer that runs until the scope closes.
 *
 * **Details**
 *
 * The environment variable `EFFECT_KV_PGBOUNCER` names its program; `npm test` sets it. Libraries that are in a folder `lib`
 * beside the program are used. PgBouncer refuses to run as root, so then it runs as the user `nobody`.
 *
 * @example
 * ```ts norun
 * import { PgBouncer, PostgresServer } from "@effect-kv/test-suite/verification"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const server = yield* PostgresServer.make()
 *   const bouncer = yield* PgBouncer.make({ target: server.port, mode: "transaction" })
 *   yield* Effect.log(bouncer.url)
 * })
 * ```
 *
 * @since 0.1.0
 */
export const make = (options: Options): Effect.Effect<PgBouncer, PgBouncerError, Scope.Scope> =>
  realTime(start(options))

const failure = (message: string, cause?: unknown): PgBouncerError => new PgBouncerError({ message, cause })

const configOf = ({ mode, settings, target }: Options, port: number): string =>
  `[databases]
postgres = host=127.0.0.1 port=${target} dbname=postgres user=postgres
[pgbouncer]
${
    Object.entries({
      listen_addr: "127.0.0.1",
      listen_port: `${port}`,
      unix_socket_dir: "",
      auth_type: "any",
      pool_mode: mode,
      max_client_conn: "1000",
      default_pool_size: "200",
      ...settings
    }).map(([name, value]) => `${name} = ${value}`).join("\n")
  }
`

const start = Effect.fnUntraced(function*(options: Options) {
  const given = process.env["EFFECT_KV_PGBOUNCER"] ?? ""
  if (given === "" || !Fs.existsSync(given)) {
    return yield* Effect.fail(failure("EFFECT_KV_PGBOUNCER must name the program of PgBouncer; npm test sets it"))
  }
  const guardian = yield* Effect.mapError(
    Guardian.make("effect-kv-pgbouncer"),
    ({ cause, message }) => failure(message, cause)
  )
  const port = yield* Effect.acquireRelease(freePort, releasePort)
  const home = Path.join(guardian.directory, "home")
  const config = Path.join(home, "pgbouncer.ini")
  const log = Path.join(guardian.directory, "pgbouncer.log")
  const program = yield* Effect.sync(() => {
    Fs.mkdirSync(home, { mode: 0o755 })
    Fs.writeFileSync(config, configOf(options, port))
    if (!isRoot()) return given
    Fs.chmodSync(guardian.directory, 0o711)
    Fs.chownSync(home, unprivileged, unprivileged)
    // The clone may be in a folder that only root may enter.
    if (isReachable(Path.dirname(Fs.realpathSync(given)))) return given
    Fs.cpSync(Path.dirname(given), Path.join(home, "program"), { recursive: true, verbatimSymlinks: true })
    return Path.join(home, "program", Path.basename(given))
  })
  const file = Fs.openSync(log, "a")
  const spawned = yield* guardian.spawn({
    ...asUnprivileged(program, [config]),
    env: { LC_ALL: "C", TZ: "UTC", LD_LIBRARY_PATH: Path.join(Path.dirname(program), "lib") },
    stdio: ["ignore", file, file]
  }).pipe(
    Effect.mapError(({ cause, message }) => failure(message, cause)),
    Effect.ensuring(Effect.sync(() => Fs.closeSync(file)))
  )
  const ended = Effect.flatMap(
    spawned.end,
    () => Effect.fail(failure(`pgbouncer exited:\n${Fs.readFileSync(log, "utf8").slice(-4000)}`))
  )
  const accepting = Effect.repeat(accepts(port), { until: (yes) => yes, schedule: Schedule.spaced("15 millis") })
  yield* Effect.raceFirst(Effect.asVoid(accepting), ended).pipe(
    Effect.timeoutOrElse({
      duration: "30 seconds",
      orElse: () => Effect.fail(failure(`pgbouncer does not accept connections:\n${Fs.readFileSync(log, "utf8")}`))
    })
  )
  return { port, url: `postgres://postgres@127.0.0.1:${port}/postgres` }
})
