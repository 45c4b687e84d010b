/**
 * Faults of the server of Postgres. Each returns when it accepts connections again.
 */
import type { PostgresServer } from "@effect-kv/test-suite/verification"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { Outcome } from "../AppliedFault.ts"
import { connectionsOf, type Fault } from "../Fault.ts"
import { StoreError } from "../Store.ts"
import type { Sql } from "./sql.ts"
import { ofClients } from "./sql.ts"

export interface Server {
  readonly server: typeof PostgresServer.PostgresServer.Service
  readonly sql: Sql
}

type ServerFault = Effect.Effect<Outcome | void, Error>

const send = (pid: number, signal: NodeJS.Signals): Effect.Effect<void> =>
  Effect.sync(() => {
    try {
      process.kill(pid, signal)
    } catch {
      // It has ended.
    }
  })

/** A server that does not run cannot be stopped, so the fault would have no effect. */
const pidOf = ({ server }: Server): Effect.Effect<number, StoreError> =>
  Effect.flatMap(
    server.pid,
    (pid) =>
      pid === undefined ? Effect.fail(new StoreError({ message: "the server does not run" })) : Effect.succeed(pid)
  )

/** Ends the server, and starts it again. */
const away = (to: Server, millis: number, end: (pid: number) => Effect.Effect<unknown, Error>): ServerFault =>
  Effect.acquireUseRelease(
    Effect.flatMap(pidOf(to), end),
    () => Effect.sleep(millis),
    () => to.server.start
  ).pipe(Effect.andThen(Clock.monotonicTimeNanos), Effect.map((healed) => ({ healed })))

const untilEnded = ({ server }: Server): Effect.Effect<void, StoreError> =>
  Effect.repeat(server.pid, { until: (pid) => pid === undefined, schedule: Schedule.spaced("10 millis") }).pipe(
    Effect.timeoutOrElse({
      duration: "20 seconds",
      orElse: () => Effect.fail(new StoreError({ message: "the server did not end" }))
    }),
    Effect.asVoid
  )

const ended = (signal: NodeJS.Signals) => (to: Server, { millis }: Fault): ServerFault =>
  away(to, millis, (pid) => Effect.andThen(send(pid, signal), untilEnded(to)))

/** Kills the postmaster alone (`kill -9`). Its processes end by themselves when they notice, and may commit until then. */
export const killPostmaster = ended("SIGKILL")

/** A fast shutdown: connections are ended with an error, and a checkpoint is written. */
export const stopFast = ended("SIGINT")

/** An immediate shutdown: connections are ended at once, and the next start recovers. */
export const stopImmediate = ended("SIGQUIT")

/** Kills the server with all its processes at once. */
export const outage = (to: Server, { millis }: Fault): ServerFault => away(to, millis, () => to.server.kill)

interface Process {
  readonly pid: number
}

/** Some processes that serve clients. Active ones first. */
const backends = ({ sql }: Server, count: number) =>
  Effect.map(
    sql.query<Process>(
      `select pid from pg_stat_activity where ${ofClients} order by state = 'active' desc, random() limit ${count}`
    ),
    (rows) => rows.map(({ pid }) => pid)
  )

const someBackends = (to: Server, count: number) =>
  Effect.flatMap(
    backends(to, count),
    (pids) =>
      pids.length > 0
        ? Effect.succeed(pids)
        : Effect.fail(new StoreError({ message: "no client has a connection" }))
  ).pipe(Effect.retry({ schedule: Schedule.spaced("100 millis"), times: 50 }))

/** Kills a process that serves a client: the server ends all connections and recovers. */
export const killBackend = Effect.fnUntraced(function*(to: Server) {
  const [pid] = yield* someBackends(to, 1)
  yield* send(pid!, "SIGKILL")
  const recovered = to.sql.query<{ readonly ready: boolean }>(
    "select not pg_is_in_recovery() and pg_postmaster_start_time() is not null as ready"
  )
  yield* Effect.repeat(recovered, { until: ([row]) => row!.ready, schedule: Schedule.spaced("20 millis") })
})

/** Suspends the server and all its processes (SIGSTOP), and resumes them (SIGCONT). */
export const pauseServer = (to: Server, { millis }: Fault): ServerFault =>
  Effect.andThen(
    pidOf(to),
    Effect.acquireUseRelease(to.server.pause, () => Effect.sleep(millis), () => to.server.resume)
  )

/** Suspends some processes that serve clients, with the locks that they hold at this moment. */
export const pauseBackends = Effect.fnUntraced(function*(to: Server, fault: Fault) {
  const pids = yield* someBackends(to, connectionsOf(fault))
  yield* Effect.acquireUseRelease(
    Effect.forEach(pids, (pid) => send(pid, "SIGSTOP")),
    () => Effect.sleep(fault.millis),
    () => Effect.forEach(pids, (pid) => send(pid, "SIGCONT"))
  )
})

/** Repeats a statement that strikes some connections for as long as the fault lasts, and until it has struck one. */
const striking = (pause: number, statement: (fault: Fault) => string) => (to: Server, fault: Fault): ServerFault => {
  let struck = 0
  const once = Effect.tap(
    to.sql.query<{ readonly struck: bigint }>(statement(fault)),
    ([row]) => Effect.sync(() => void (struck += Number(row!.struck)))
  )
  return Effect.gen(function*() {
    const begin = yield* Clock.monotonicTimeNanos
    const until = begin + BigInt(fault.millis) * 1_000_000n
    const latest = until + 10_000_000_000n
    while (true) {
      yield* once
      const now = yield* Clock.monotonicTimeNanos
      if (now >= until && struck > 0) return
      if (now >= latest) return yield* new StoreError({ message: "no connection could be struck" })
      yield* Effect.sleep(pause)
    }
  })
}

export const terminateBackends = striking(
  150,
  (fault) =>
    `select count(*) filter (where pg_terminate_backend(pid)) as struck
  from (select pid from pg_stat_activity where ${ofClients} order by random() limit ${connectionsOf(fault)}) x`
)

export const cancelStatements = striking(20, (fault) =>
  `select count(*) filter (where pg_cancel_backend(pid)) as struck
  from (
    select pid from pg_stat_activity where ${ofClients} and state = 'active' order by random() limit ${
    connectionsOf(fault)
  }
  ) x`)

/** Locks the store, as a long transaction of an operator does: its row, or the whole table. */
export const lockStore = ({ sql }: Server, { amount, millis }: Fault): ServerFault => {
  const statement = amount % 2 === 0
    ? "select revision from effect_kv.store for update"
    : "lock table effect_kv.store in access exclusive mode"
  return sql.client.withTransaction(
    Effect.andThen(sql.client.unsafe(statement), Effect.sleep(millis))
  )
}

/** Rewrites the tables, each of which is locked meanwhile. */
export const vacuum = ({ sql }: Server): ServerFault =>
  Effect.forEach(
    ["store", "entry", "log", "lease", "void"],
    (table) => sql.query(`vacuum (full, analyze) effect_kv.${table}`),
    { discard: true }
  )
