/**
 * Attempts: queries that run once, each in a fiber of its own. The caller never waits for the end of a statement that it
 * gave up.
 */
import type * as KvError from "@effect-kv/core/KvError"
import * as SendControl from "@effect-kv/core/SendControl"
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { Connection } from "effect/sql/SqlConnection"
import type { SqlError } from "effect/sql/SqlError"
import type { RequestMetrics } from "./requestMetrics.ts"
import { type Holder, type Reservation, Reservations } from "./reservations.ts"
import { leavingStandby } from "./standby.ts"
import type { Row, Statement } from "./statement.ts"
import { Turns } from "./turns.ts"

export type Outcome =
  | { readonly _tag: "Rows"; readonly rows: ReadonlyArray<Row> }
  | { readonly _tag: "Rejected"; readonly error: KvError.KvError }
  | { readonly _tag: "Failed"; readonly error: SqlError; readonly sent: boolean }
  | { readonly _tag: "Late"; readonly sent: boolean; readonly stage: Stage }
  | { readonly _tag: "Closed"; readonly sent: boolean }
  | { readonly _tag: "Cancelled" }

/** What an attempt waits for: the responses of earlier ones, a connection of the pool, or its own response. */
export type Stage = "Turn" | "Connection" | "Response"

/** An attempt in flight. */
export interface InFlight {
  readonly stage: Stage
}

/** What is attempted. */
export interface Request {
  /** A statement, or another query. */
  readonly query: Statement | Effect.Effect<Outcome, SqlError>
  /** How many milliseconds are left. */
  readonly remaining: () => number
  /** Whether it waits for its turn before it takes a connection. */
  readonly isInTurn: boolean
  /** Where it is measured; `undefined` if it is not. */
  readonly metrics: RequestMetrics | undefined
  /** Called with the attempt when it begins. */
  readonly onBegin?: ((attempt: InFlight) => void) | undefined
}

type Run = <A, E>(effect: Effect.Effect<A, E>) => Fiber.Fiber<A, E>

/** What all attempts of a client share. */
interface Shared {
  readonly run: Run
  readonly turns: Turns
  readonly reservations: Reservations
  /** The attempts that have not ended, also those that no caller waits for any more. */
  readonly attempts: Set<Attempt>
  /** Called when a query found that the pool is closed. */
  readonly onPoolClosed: () => void
  isOpen: boolean
}

export class Attempts {
  readonly #pg: PgClient.PgClient
  readonly #shared: Shared

  constructor(pg: PgClient.PgClient, run: Run, onPoolClosed: () => void) {
    this.#pg = pg
    this.#shared = {
      run,
      onPoolClosed,
      turns: new Turns(ordinaryStatements(pg)),
      reservations: new Reservations(pg, run),
      attempts: new Set(),
      isOpen: true
    }
  }

  /** Runs a query once. */
  once(request: Request): Effect.Effect<Outcome> {
    return Effect.withFiber((caller) => {
      const control = caller.getRef(SendControl.Current)
      return Effect.callback<Outcome>((resume) => {
        if (!this.#shared.isOpen) return resume(Effect.succeed({ _tag: "Closed", sent: false }))
        const attempt = new Attempt(this.#shared, request, control, resume)
        request.onBegin?.(attempt)
        attempt.begin()
        return Effect.sync(() => attempt.giveUp())
      })
    })
  }

  get isOpen(): boolean {
    return this.#shared.isOpen
  }

  /** Ends the attempts in flight. Later ones fail at once. */
  close(): void {
    this.#shared.isOpen = false
    for (const attempt of this.#shared.attempts) attempt.close()
  }

  /**
   * Waits for the ends of the statements that were given up, for at most a second: after a client has closed, none of its
   * writes should be applied. A cancellation may arrive before the statement that it is meant for, so the writes that
   * have not ended are declared void, within another second.
   */
  get drained(): Effect.Effect<void> {
    return Effect.suspend(() => endOf([...this.#shared.attempts].flatMap(({ fiber }) => fiber ?? []))).pipe(
      Effect.andThen(Effect.suspend(() => {
        const fibers = [...this.#shared.attempts].flatMap(({ declareVoid }) =>
          declareVoid === undefined ? [] : this.#shared.run(executed(this.#pg, declareVoid))
        )
        return Effect.andThen(
          endOf(fibers),
          Effect.sync(() => fibers.forEach((fiber) => fiber.interruptUnsafe()))
        )
      }))
    )
  }
}

/** What `PgClient` and its pool use if nothing else is set. */
const defaultConnections = 10

/**
 * How many statements are in flight at once: so many that connections of the pool are left for the listener of the
 * watches, and for renewals of leases, which must not wait in a queue of other calls.
 */
const ordinaryStatements = ({ config }: PgClient.PgClient): number => {
  const { maxConnections = defaultConnections }: PgClient.PgPoolConfig = config
  return Math.max(1, maxConnections - Math.min(3, Math.floor(maxConnections / 2)))
}

const executed = (pg: PgClient.PgClient, statement: Statement): Effect.Effect<unknown, SqlError> =>
  Effect.scoped(Effect.flatMap(pg.reserve, (connection) => executedOn(connection, statement)))

const executedOn = (
  connection: Connection,
  { params, sql }: Statement
): Effect.Effect<ReadonlyArray<Row>, SqlError> => leavingStandby(connection)(connection.executeValues(sql, params))

const endOf = (fibers: ReadonlyArray<Fiber.Fiber<unknown, unknown>>): Effect.Effect<void> =>
  Effect.asVoid(Effect.timeoutOption(Fiber.awaitAll(fibers), "1 second"))

/** Timers of Node cannot be longer. */
const longestTimer = 2 ** 31 - 1

class Attempt implements Holder, InFlight {
  reservation: Reservation | undefined = undefined
  /** `undefined` until it has a turn. */
  fiber: Fiber.Fiber<unknown, unknown> | undefined = undefined
  readonly #shared: Shared
  readonly #request: Request
  readonly #control: SendControl.SendControl | undefined
  readonly #resume: (outcome: Effect.Effect<Outcome>) => void
  readonly #began: number
  #timer: ReturnType<typeof setTimeout> | undefined = undefined
  #wasSent = false
  /** Whether it has no caller any more: the caller has the outcome, or was interrupted. */
  #isSettled = false
  #isWaiting: boolean

  constructor(
    shared: Shared,
    request: Request,
    control: SendControl.SendControl | undefined,
    resume: (outcome: Effect.Effect<Outcome>) => void
  ) {
    this.#shared = shared
    this.#request = request
    this.#control = control
    this.#resume = resume
    this.#isWaiting = request.metrics !== undefined
    this.#began = this.#isWaiting ? performance.now() : 0
  }

  /** The statement after which this one is not applied any more. */
  get declareVoid(): Statement | undefined {
    const { query } = this.#request
    return "sql" in query ? query.declareVoid : undefined
  }

  get stage(): Stage {
    if (this.#wasSent) return "Response"
    if (this.fiber !== undefined) return "Connection"
    // It waits for what those wait for that have a turn.
    for (const other of this.#shared.attempts) {
      if (other.fiber !== undefined && other.stage === "Connection") return "Connection"
    }
    return "Turn"
  }

  begin(): void {
    this.#control?.track(() => this.#wasSent)
    this.#shared.attempts.add(this)
    this.#arm(Math.max(1, this.#request.remaining()))
    if (this.#request.isInTurn) this.#shared.turns.enter(this)
    else this.start()
  }

  /** Starts the query. */
  start(): void {
    const { query } = this.#request
    const fiber = this.#shared.run<ReadonlyArray<Row> | Outcome, SqlError>(
      "sql" in query ? this.#execute(query) : query
    )
    this.fiber = fiber
    // A fiber that has ended already calls its observer at once.
    fiber.addObserver((exit) => this.#ended(exit))
    if (this.#isSettled) fiber.interruptUnsafe()
  }

  /** The caller was interrupted. */
  giveUp(): void {
    if (!this.#isSettled) this.#stop()
  }

  close(): void {
    this.#settle({ _tag: "Closed", sent: this.#wasSent })
  }

  #execute(statement: Statement): Effect.Effect<ReadonlyArray<Row> | Outcome, SqlError> {
    return this.#shared.reservations.use(
      this,
      (connection): Effect.Effect<ReadonlyArray<Row> | Outcome, SqlError> =>
        this.#mayBeSent()
          ? executedOn(connection, statement)
          : Effect.succeed({ _tag: "Cancelled" })
    )
  }

  /** Called in the turn of the event loop in which the statement is sent. */
  #mayBeSent(): boolean {
    this.#measureWait()
    if (this.#control?.isCancelled() === true) return false
    this.#wasSent = true
    return true
  }

  #ended(exit: Exit.Exit<ReadonlyArray<Row> | Outcome, SqlError>): void {
    this.#shared.attempts.delete(this)
    if (this.#request.isInTurn) this.#shared.turns.leave()
    const { reservation } = this
    if (reservation === undefined) this.#settleWith(exit)
    else this.#shared.reservations.passOn(reservation, () => this.#settleWith(exit))
  }

  #settleWith(exit: Exit.Exit<ReadonlyArray<Row> | Outcome, SqlError>): void {
    if (Exit.isSuccess(exit)) {
      return this.#settle("_tag" in exit.value ? exit.value : { _tag: "Rows", rows: exit.value })
    }
    const failure = exit.cause.reasons.find((reason) => reason._tag === "Fail")
    if (failure !== undefined) return this.#settle({ _tag: "Failed", error: failure.error, sent: this.#wasSent })
    if (!this.#shared.isOpen) return this.close()
    if (this.#isSettled) return
    // Nothing else interrupts the query of an attempt that was not given up.
    if (Cause.hasInterruptsOnly(exit.cause)) {
      this.close()
      return this.#shared.onPoolClosed()
    }
    this.#stop()
    this.#resume(Effect.failCause(exit.cause as never))
  }

  #settle(outcome: Outcome): void {
    if (this.#isSettled) return
    this.#stop()
    if (outcome._tag === "Failed") this.#request.metrics?.failed(outcome.error)
    else if (outcome._tag === "Late") this.#request.metrics?.late()
    this.#resume(Effect.succeed(outcome))
  }

  #stop(): void {
    this.#isSettled = true
    clearTimeout(this.#timer)
    this.#measureWait()
    if (this.fiber !== undefined) return this.fiber.interruptUnsafe()
    this.#shared.turns.abandon(this)
    this.#shared.attempts.delete(this)
  }

  /** Measures how long the query waited for a connection, even if it gets none. */
  #measureWait(): void {
    if (!this.#isWaiting) return
    this.#isWaiting = false
    this.#request.metrics!.waited(performance.now() - this.#began)
  }

  #arm(millis: number): void {
    this.#timer = setTimeout(() => {
      if (millis > longestTimer) this.#arm(millis - longestTimer)
      else this.#settle({ _tag: "Late", sent: this.#wasSent, stage: this.stage })
    }, Math.min(millis, longestTimer))
  }
}
