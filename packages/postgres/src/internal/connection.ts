/**
 * The application's `PgClient`, as this package uses it: one statement at a time, outside of any transaction of the
 * caller, on the machine's clock, and ended with the layer.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as KvError from "@effect-kv/core/KvError"
import * as LastFailure from "@effect-kv/core/LastFailure"
import * as Tracing from "@effect-kv/core/Tracing"
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import { Attempts, type InFlight, type Outcome, type Request, type Stage } from "./attempts.ts"
import { Identity, type Kind, type Lineage, type Position, type Sent } from "./identity.ts"
import { isVoid } from "./items.ts"
import * as lineage from "./lineage.ts"
import type { Settings } from "./options.ts"
import * as permissions from "./permissions.ts"
import * as realTime from "./realTime.ts"
import { RequestMetrics } from "./requestMetrics.ts"
import { identifier } from "./schema/names.ts"
import { SchemaUse } from "./schemaUse.ts"
import * as serverAddress from "./serverAddress.ts"
import * as sqlErrors from "./sqlErrors.ts"
import type { Row, Statement } from "./statement.ts"
import * as statementSpan from "./statementSpan.ts"

/** Where the rows of a statement show the position of the store; `undefined` if they do not. */
export type PositionIn = (rows: ReadonlyArray<Row>) => Position | undefined

/** What a write does when it has no response, in the time that remains of its deadline. */
export type Resolve<A> = (remaining: Duration.Duration) => Effect.Effect<A, KvError.KvError>

/**
 * The longest deadline of work that no caller waits for. The deadline of calls may be an hour, or none; but a connection may be
 * silent, and the watches and leases of the client must not wait for it that long.
 */
const longestInBackground = Duration.minutes(1)

export class Connection {
  readonly pg: PgClient.PgClient
  readonly identity = new Identity()
  readonly settings: Settings
  /** The deadline of each statement of work that no caller waits for. */
  readonly backgroundDeadline: Duration.Duration
  /** The schema, as an identifier. */
  readonly schema: string
  readonly server: serverAddress.ServerAddress
  /** `undefined`: nothing is measured. */
  readonly metrics: RequestMetrics | undefined
  readonly #schemaUse: SchemaUse
  readonly #closing = new Set<() => void>()
  readonly #inFlight: Attempts

  constructor(
    pg: PgClient.PgClient,
    settings: Settings,
    run: <A, E>(effect: Effect.Effect<A, E>) => Fiber.Fiber<A, E>
  ) {
    this.pg = pg
    this.settings = settings
    this.backgroundDeadline = Duration.min(settings.deadline, longestInBackground)
    this.schema = identifier(settings.schema)
    this.server = serverAddress.of(pg.config)
    this.metrics = settings.meter === undefined ? undefined : new RequestMetrics(settings.meter, this.server)
    this.#schemaUse = new SchemaUse(pg, settings, run)
    this.#inFlight = new Attempts(pg, run, () => this.close())
  }

  /** Whether the pool has a connection to listen with: the only one would not be free for calls any more. */
  get canListen(): boolean {
    return maxConnectionsOf(this.pg) !== 1
  }

  get isOpen(): boolean {
    return this.#inFlight.isOpen
  }

  /** Ends the calls in flight. Later ones fail at once. */
  close(): void {
    this.#inFlight.close()
    this.#schemaUse.close()
    for (const end of this.#closing) end()
  }

  /** Waits for the ends of the statements that were given up, or declares them void. */
  get drained(): Effect.Effect<void> {
    return this.#inFlight.drained
  }

  /** Calls `f` when the layer closes. Returns the function that cancels that. */
  onClose(f: () => void): () => void {
    if (!this.isOpen) {
      f()
      return () => {}
    }
    this.#closing.add(f)
    return () => this.#closing.delete(f)
  }

  /**
   * Executes a statement that changes nothing, or that can be repeated. Repeats it until the deadline. Fails with
   * `StoreReplaced` if the rows show that the store was replaced.
   */
  read(statement: Statement, positionIn?: PositionIn): Effect.Effect<ReadonlyArray<Row>, KvError.KvError> {
    return this.#within((remaining, call) =>
      this.#attempts({ statement, remaining, positionIn, resolve: undefined, call })
    )
  }

  /** `read`, not delayed by other statements of this client: for renewals, whose delay loses a session and its locks. */
  readUrgently(statement: Statement): Effect.Effect<ReadonlyArray<Row>, KvError.KvError> {
    return this.#within((remaining, call) =>
      this.#attempts({ statement, remaining, positionIn: undefined, resolve: undefined, isUrgent: true, call })
    )
  }

  /** `read` of what every server has, also one without the schema of the store. */
  readCatalog(statement: Statement): Effect.Effect<ReadonlyArray<Row>, KvError.KvError> {
    return this.#within((remaining) =>
      this.#attempts({ statement, remaining, positionIn: undefined, resolve: undefined, isOfCatalog: true })
    )
  }

  /** Checks the schema, and creates or upgrades it if needed, as the first call does. */
  get schemaReady(): Effect.Effect<void, KvError.KvError> {
    return Effect.suspend(() => this.#schemaUse.isReady ? Effect.void : Effect.asVoid(this.read(nothing)))
  }

  /**
   * Executes a statement once. It is repeated only if it was not sent, or if the server reported that it was not
   * executed. If the response was lost, `resolve` finds out. If the store rejected it as void, `onVoid` goes on.
   */
  write<A>(
    statement: Statement,
    resolve: Resolve<A>,
    positionIn?: PositionIn,
    onVoid?: Resolve<A>
  ): Effect.Effect<ReadonlyArray<Row> | A, KvError.KvError> {
    return this.#within((remaining, call) =>
      this.#attempts({ statement, remaining, positionIn, resolve, onVoid, call })
    )
  }

  #within<A>(
    f: (remaining: () => number, call: CallState | undefined) => Effect.Effect<A, KvError.KvError>
  ): Effect.Effect<A, KvError.KvError> {
    return realTime.provide(Effect.withFiber((fiber) => {
      const deadline = fiber.getRef(Deadline.Deadline) ?? this.settings.deadline
      const end = performance.now() + Duration.toMillis(deadline)
      const remaining = (): number => end - performance.now()
      const record = fiber.getRef(LastFailure.Current)
      if (record === undefined) return f(remaining, undefined)
      const call = new CallState(this.#schemaUse)
      return record.during(f(remaining, call), call)
    }))
  }

  /** Call it when the effect that it returns is executed. */
  #attempts<A>(
    { call, isOfCatalog = false, isUrgent = false, onVoid, positionIn, remaining, resolve, statement }: {
      readonly statement: Statement
      readonly remaining: () => number
      /** What is known of the call, if its caller may give it up before its deadline. */
      readonly call?: CallState | undefined
      readonly positionIn: PositionIn | undefined
      readonly resolve: Resolve<A> | undefined
      readonly onVoid?: Resolve<A> | undefined
      readonly isUrgent?: boolean
      readonly isOfCatalog?: boolean
    }
  ): Effect.Effect<ReadonlyArray<Row> | A, KvError.KvError> {
    let last: SqlError | undefined
    let mayDoubt = true
    const { generation } = this.identity.sent
    const left = (): Duration.Duration => Duration.millis(Math.max(0, remaining()))
    const answered = (rows: ReadonlyArray<Row>): Effect.Effect<ReadonlyArray<Row> | A, KvError.KvError> =>
      onVoid !== undefined && isVoid(rows) ? onVoid(left()) : Effect.succeed(rows)
    /** Attempts it again after a pause of at most so many milliseconds. */
    const again = (backoff: number): Effect.Effect<ReadonlyArray<Row> | A, KvError.KvError> =>
      Random.next.pipe(
        Effect.flatMap((random) => Effect.sleep(backoff * (0.5 + random / 2))),
        Effect.andThen(Effect.suspend(() => attempt(Math.min(backoff * 2, 500))))
      )
    const attempt = (backoff: number): Effect.Effect<ReadonlyArray<Row> | A, KvError.KvError> => {
      const replaced = this.identity.replacedSince(generation, "NotApplied")
      if (replaced !== undefined) return Effect.fail(replaced)
      if (last !== undefined) this.metrics?.retried(last)
      const { sent } = this.identity
      const once = isOfCatalog
        ? this.#send(statement, remaining, isUrgent, call)
        : this.#attempt(statement, remaining, isUrgent, call)
      return Effect.flatMap(once, (outcome) => {
        call?.ended(outcome)
        switch (outcome._tag) {
          case "Rows": {
            const { rows } = outcome
            const seen = positionIn?.(rows)
            const problem = seen === undefined
              ? undefined
              : this.#problemWith({ seen, sent, kind: resolve === undefined ? "read" : "write", remaining })
            return problem === undefined ? answered(rows) : Effect.matchEffect(problem, {
              onSuccess: () => answered(rows),
              onFailure: (error) =>
                resolve === undefined && error.reason._tag === "Unavailable" && remaining() > backoff
                  ? again(backoff)
                  : Effect.fail(error)
            })
          }
          case "Rejected":
            return Effect.fail(outcome.error)
          case "Closed":
            return outcome.sent && resolve !== undefined ? KvError.fail(unknown("the client was closed")) : closed
          case "Cancelled":
            return KvError.fail(new KvError.Unavailable({ message: "the request was cancelled before it was sent" }))
          case "Late":
            if (outcome.sent && resolve !== undefined) {
              return KvError.fail(unknown("no response arrived before the deadline"))
            }
            // A statement that was sent has got over the failure before it.
            return last === undefined || outcome.sent
              ? KvError.fail(late(outcome.stage, this.#schemaUse))
              : sqlErrors.fail(last)
          case "Failed": {
            const { error, sent } = outcome
            last = error
            if (mayDoubt && sent && sqlErrors.isSchemaMissing(error)) {
              mayDoubt = false
              this.#schemaUse.doubt()
              return attempt(backoff)
            }
            if (sqlErrors.isDenied(error)) return this.#denied(error, remaining)
            if (sent && resolve !== undefined && sqlErrors.mayBeApplied(error)) {
              return resolve(left())
            }
            if (!sqlErrors.isTransient(error) || remaining() <= backoff) return sqlErrors.fail(error)
            return sqlErrors.isQueueFull(error)
              ? Effect.andThen(this.#inFlight.once(unmeasured(removeNotifications, remaining)), again(backoff))
              : again(backoff)
          }
        }
      })
    }
    return attempt(20)
  }

  /** Fails if the store was replaced; `undefined` if it is known at once that it was not. */
  #problemWith(call: Received): Effect.Effect<void, KvError.KvError> | undefined {
    const { kind, seen, sent } = call
    const found = this.identity.observe(seen, sent, kind)
    return found === undefined ? undefined : found === "Unknown" ? this.#compared(call) : Effect.fail(found)
  }

  /** Has the store compare a position with what the client knows. */
  #compared(call: Received): Effect.Effect<void, KvError.KvError> {
    const { kind, remaining, seen, sent } = call
    const asked = this.identity.sent
    return this.lineage(seen, remaining).pipe(
      Effect.mapError((error) =>
        kind === "read" ? error : KvError.make(unknown(
          `the write was executed by a server that may have lost earlier writes, and the store did not respond: ${error.reason.message}`
        ))
      ),
      Effect.flatMap((lineage) => {
        const problem = this.identity.settle(lineage, { seen, sent, asked, kind })
        return problem === undefined ? Effect.void : problem === "Unknown" ? this.#compared(call) : Effect.fail(problem)
      })
    )
  }

  /** Fails with what the role lacks. */
  #denied(error: SqlError, remaining: () => number): Effect.Effect<never, KvError.KvError> {
    const { schema } = this.settings
    return Effect.flatMap(
      this.#send(permissions.statement(schema), remaining, true),
      (outcome) =>
        sqlErrors.fail(error, outcome._tag === "Rows" ? permissions.missing(schema, outcome.rows[0]!) : undefined)
    )
  }

  /** One attempt, of at most that many milliseconds. Fails with the reason in words. It does not check the schema. */
  once(statement: Statement, millis: number): Effect.Effect<ReadonlyArray<Row>, string> {
    return Effect.flatMap(
      realTime.provide(this.#inFlight.once(unmeasured(statement, () => millis))),
      (outcome) => outcome._tag === "Rows" ? Effect.succeed(outcome.rows) : Effect.fail(problemOf(outcome, millis))
    )
  }

  /** What the store reports of a position, and of the one that the client knows. */
  lineage(seen: Position, remaining?: () => number): Effect.Effect<Lineage, KvError.KvError> {
    return Effect.suspend(() => {
      const { epoch, revision } = this.identity.sent
      const known = epoch === undefined ? seen : { epoch, revision }
      const statement = lineage.statement(this.schema, known, seen)
      return Effect.map(
        remaining === undefined
          ? this.read(statement)
          : this.#attempts<never>({ statement, remaining, positionIn: undefined, resolve: undefined }),
        lineage.decode
      )
    })
  }

  /** One attempt, after the check of the schema. */
  #attempt(
    statement: Statement,
    remaining: () => number,
    isUrgent: boolean,
    call: CallState | undefined
  ): Effect.Effect<Outcome> {
    const sent = this.#send(statement, remaining, isUrgent, call)
    if (this.#schemaUse.isReady) return sent
    return Effect.flatMap(
      this.#inFlight.once({ ...unmeasured(ready(this.#schemaUse), remaining), onBegin: call?.onBegin }),
      (outcome) => outcome._tag === "Rows" ? sent : Effect.succeed(outcome)
    )
  }

  /** Sends a statement once, counted, and in a span if the call has one. */
  #send(
    statement: Statement,
    remaining: () => number,
    isUrgent: boolean,
    call?: CallState
  ): Effect.Effect<Outcome> {
    const request = {
      query: statement,
      remaining,
      isInTurn: !isUrgent,
      metrics: this.metrics,
      onBegin: call?.onBegin
    }
    const attempted = this.#inFlight.once(request)
    return Effect.withFiber((fiber) => {
      const call = Tracing.spanOf(fiber)
      return call === undefined ?
        attempted :
        statementSpan.around(call, statement.sql, this.server, attempted, (outcome) => ({
          error: outcome._tag === "Failed" ? outcome.error : undefined,
          isLate: outcome._tag === "Late"
        }))
    })
  }
}

/** Why an attempt of at most that many milliseconds has no rows. */
const problemOf = (outcome: Exclude<Outcome, { readonly _tag: "Rows" }>, millis: number): string => {
  switch (outcome._tag) {
    case "Failed":
      return sqlErrors.describe(outcome.error)
    case "Late":
      return `${stageProblem(outcome.stage)} within ${Math.round(millis)} ms`
    case "Rejected":
      return outcome.error.message
    default:
      return "the client was closed"
  }
}

/** An attempt that neither waits for its turn nor is measured. */
const unmeasured = (query: Request["query"], remaining: () => number): Request => ({
  query,
  remaining,
  isInTurn: false,
  metrics: undefined
})

/**
 * Removes the notifications that all listeners have read. Postgres does that itself only after a commit that notifies,
 * which a full queue prevents.
 */
const removeNotifications: Statement = { sql: "select pg_notification_queue_usage()", params: [] }

const nothing: Statement = { sql: "select", params: [] }

/** Waits until the schema can be used. */
const ready = (schemaUse: SchemaUse): Effect.Effect<Outcome, SqlError> =>
  Effect.matchEffect(schemaUse.ready, {
    onFailure: (error): Effect.Effect<Outcome, SqlError> =>
      KvError.isKvError(error) ? Effect.succeed({ _tag: "Rejected", error }) : Effect.fail(error),
    onSuccess: () => Effect.succeed<Outcome>({ _tag: "Rows", rows: [] })
  })

/** The position that a response showed. */
interface Received {
  readonly seen: Position
  /** What was known when the request was sent. */
  readonly sent: Sent
  readonly kind: Kind
  readonly remaining: () => number
}

/** `undefined`: the default of the pool, or a client without one. */
const maxConnectionsOf = ({ config }: PgClient.PgClient): number | undefined =>
  (config as PgClient.PgPoolConfig).maxConnections

const unknown = (why: string): KvError.Reason =>
  new KvError.Indeterminate({ message: `${why}, so it is not known whether the store applied the write` })

/** The reason of a call whose deadline passed at this stage. */
const late = (stage: Stage, schemaUse: SchemaUse): KvError.Reason =>
  new KvError.DeadlineExceeded({ message: `${waitsFor(stage, schemaUse)} before the deadline` })

/** What has not happened at this stage, so that a time can follow. A check of the schema comes before any statement. */
const waitsFor = (stage: Stage, schemaUse: SchemaUse): string => {
  if (schemaUse.isReady) return stageProblem(stage)
  return schemaUse.stage === "Connection"
    ? stageProblem("Connection")
    : "Postgres did not respond to the check of the schema, or is upgrading the schema,"
}

const stageProblem = (stage: Stage): string => {
  switch (stage) {
    case "Turn":
      return "not sent, because earlier statements of this client had no response"
    case "Connection":
      return "no connection of the PgClient was available (its pool may be in use, or the server unreachable)"
    case "Response":
      return "Postgres did not respond"
  }
}

/** A call in flight, for a caller that gives it up before its deadline. */
class CallState implements LastFailure.Call {
  readonly onBegin = (attempt: InFlight): void => {
    this.#attempt = attempt
  }
  readonly #schemaUse: SchemaUse
  #attempt: InFlight | undefined
  #last: SqlError | undefined

  constructor(schemaUse: SchemaUse) {
    this.#schemaUse = schemaUse
  }

  /** An attempt has ended. */
  ended(outcome: Outcome): void {
    this.#attempt = undefined
    this.#last = outcome._tag === "Failed" ? outcome.error : undefined
  }

  get lastFailure(): KvError.Reason | undefined {
    const stage = this.#attempt?.stage
    if (this.#last !== undefined && stage !== "Response") return sqlErrors.reasonOf(this.#last)
    if (stage === undefined) return undefined
    const message = waitsFor(stage, this.#schemaUse)
    return stage === "Response" ? new KvError.DeadlineExceeded({ message }) : new KvError.Unavailable({ message })
  }
}

const closedReason = (what: string): KvError.KvError =>
  KvError.make(new KvError.Closed({ message: `${what} was closed: the scope it was opened in has ended` }))

const closed = Effect.fail(closedReason("the client"))

/** Made once, because every watch ends with it and errors are expensive. */
export const watchClosed = closedReason("the watch")

const onlyOne =
  "the PgClient has one connection (maxConnections: 1), so watches and waits for locks poll, and no call can " +
  "be made inside of a SQL transaction; give it 3 or more"

/** Opens the connection until the scope closes. */
export const make = Effect.fnUntraced(function*(
  pg: PgClient.PgClient,
  settings: Settings
): Effect.fn.Return<Connection, never, Scope.Scope> {
  const run = Effect.runForkWith(yield* realTime.context)
  const connection = new Connection(pg, settings, run)
  yield* Effect.addFinalizer(() =>
    realTime.provide(Effect.andThen(Effect.sync(() => connection.close()), connection.drained))
  )
  if (!connection.canListen) yield* Effect.logWarning(`effect-kv: ${onlyOne}`)
  connection.identity.onReplaced((message) => run(Effect.logWarning(`effect-kv: ${message}`)))
  return connection
})
