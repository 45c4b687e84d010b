/**
 * The schema as a client uses it: at first use the client compares the version in the database with its own, and creates
 * or upgrades the schema.
 */
import * as KvError from "@effect-kv/core/KvError"
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { ConnectionError, SqlError } from "effect/sql/SqlError"
import type { Stage } from "./attempts.ts"
import type { Settings } from "./options.ts"
import { primaryOnly } from "./schema/epochs.ts"
import { identifier, literal, ofItsOwn } from "./schema/names.ts"
import { foreignState, isStore, script, scriptOf } from "./schema/script.ts"
import { version } from "./schema/version.ts"
import * as sqlErrors from "./sqlErrors.ts"
import { leavingStandby } from "./standby.ts"

type Failure = SqlError | KvError.KvError

export class SchemaUse {
  readonly #check: Effect.Effect<void, Failure>
  readonly #progress: Progress = { stage: "Connection" }
  readonly #run: <A, E>(effect: Effect.Effect<A, E>) => Fiber.Fiber<A, E>
  #isReady = false
  #checking: Fiber.Fiber<void, Failure> | undefined = undefined

  constructor(
    pg: PgClient.PgClient,
    settings: Settings,
    run: <A, E>(effect: Effect.Effect<A, E>) => Fiber.Fiber<A, E>
  ) {
    this.#check = check(pg, settings, this.#progress)
    this.#run = run
  }

  /** Whether the schema was found in a version that this client can use. */
  get isReady(): boolean {
    return this.#isReady
  }

  /** What the check in flight waits for. */
  get stage(): Stage {
    return this.#progress.stage
  }

  /** A statement did not find what it needs: the schema was dropped, or a later version dropped what this one calls. */
  doubt(): void {
    this.#isReady = false
  }

  /**
   * Waits for the check. All callers share one, which continues when they have given up: an upgrade may take longer than a
   * call may. A check that failed is repeated by the next caller.
   */
  get ready(): Effect.Effect<void, Failure> {
    return Effect.suspend(() => Fiber.join(this.#checking ?? this.#start()))
  }

  /** Ends a check in flight. */
  close(): void {
    this.#checking?.interruptUnsafe()
  }

  #start(): Fiber.Fiber<void, Failure> {
    const fiber = this.#run(Effect.tap(this.#check, () =>
      Effect.sync(() => {
        this.#isReady = true
      })))
    this.#checking = fiber
    // Calls the observer at once if the check has ended already.
    fiber.addObserver(() => {
      this.#checking = undefined
    })
    return fiber
  }
}

/** How long the server may take to return a version. The check has no deadline, and its connection may be silent. */
const longest = "5 seconds"

const noResponse = new SqlError({
  reason: new ConnectionError({
    cause: new Error(`the version of the schema was not returned within ${longest}`),
    operation: "query"
  })
})

/** How far a check has come. */
interface Progress {
  stage: Stage
}

/** A connection of the pool. */
const reserve = (pg: PgClient.PgClient, progress: Progress): typeof pg.reserve =>
  Effect.suspend(() => {
    progress.stage = "Connection"
    return Effect.tap(pg.reserve, () =>
      Effect.sync(() => {
        progress.stage = "Response"
      }))
  })

const check = (
  pg: PgClient.PgClient,
  { migrate, schema }: Settings,
  progress: Progress
): Effect.Effect<void, Failure> => {
  const name = identifier(schema)
  const integer = (call: string): Effect.Effect<unknown, SqlError> =>
    Effect.map(
      Effect.scoped(
        Effect.flatMap(reserve(pg, progress), (connection) =>
          Effect.timeoutOrElse(connection.executeValuesUnprepared(`select ${name}.${call}()`, []), {
            duration: longest,
            orElse: () =>
              Effect.fail(noResponse)
          }))
      ),
      (rows) =>
        rows[0]?.[0]
    )
  const present = Effect.catchIf(integer("schema_version"), sqlErrors.isSchemaMissing, () => Effect.succeed(0))
  const oldestClient = Effect.catchIf(integer("oldest_client"), sqlErrors.isSchemaMissing, () => Effect.undefined)

  const decide = (mayMigrate: boolean): Effect.Effect<void, Failure> =>
    Effect.flatMap(present, (found) => {
      if (found === version) return Effect.void
      if (typeof found !== "number") return refuse(foreign(name))
      if (found > version) {
        return Effect.flatMap(oldestClient, (oldest) =>
          typeof oldest !== "number"
            ? refuse(foreign(name))
            : oldest <= version
            ? Effect.void
            : refuse(tooNew(name, found, oldest)))
      }
      if (!mayMigrate) return found === 0 ? absent(pg, schema) : refuse(tooOld(schema, found))
      return Effect.andThen(
        Effect.catchIf(
          runScript(pg, schema, progress),
          (error) => sqlErrors.stateOf(error) === foreignState,
          (error) => refuse(`${sqlErrors.describe(error)}; ${ofItsOwn}`)
        ),
        decide(false)
      )
    })
  return decide(migrate)
}

/** The script is one statement, and so one transaction. */
const runScript = (pg: PgClient.PgClient, schema: string, progress: Progress): Effect.Effect<void, SqlError> =>
  Effect.scoped(
    Effect.flatMap(
      reserve(pg, progress),
      (connection) =>
        leavingStandby(connection)(Effect.asVoid(connection.executeUnprepared(script(schema), [], undefined)))
    )
  )

const foreign = (name: string): string => `the schema ${name} belongs to another program; ${ofItsOwn}`

/** Fails with what the database has instead of the store. A standby may not have it yet, so it fails as for a write. */
const absent = (pg: PgClient.PgClient, schema: string): Effect.Effect<never, Failure> =>
  Effect.scoped(Effect.gen(function*() {
    const connection = yield* pg.reserve
    yield* leavingStandby(connection)(connection.executeUnprepared(primaryOnly, [], undefined))
    const [row] = yield* connection.executeValuesUnprepared(
      `select current_database()::text,
        exists (select from pg_catalog.pg_namespace n where n.nspname = ${literal(schema)}),
        (select string_agg(quote_ident(n.nspname), ', ' order by n.nspname) from pg_catalog.pg_namespace n where ${isStore})`,
      []
    )
    const [database, exists, stores] = row as unknown as readonly [string, boolean, string | null]
    const what = exists
      ? `the schema ${identifier(schema)} has no store`
      : `the database ${identifier(database)} has no schema ${identifier(schema)}`
    return yield* refuse(
      `${what}${
        stores === null ? "" : ` (there are stores in: ${stores})`
      }: correct the option schema, run the text of ` +
        `${scriptOf(schema)}, or leave out migrate: false`
    )
  }))

const tooOld = (schema: string, found: number): string =>
  `the schema ${identifier(schema)} has version ${found}, but this client needs version ${version}: run the text of ` +
  `${scriptOf(schema)}, or leave out migrate: false`

const tooNew = (name: string, found: number, oldest: number): string =>
  `the schema ${name} has version ${found}, which clients of version ${oldest} or later can use, but this client is of ` +
  `version ${version}: update @effect-kv/postgres in this program`

const refuse = (message: string): Effect.Effect<never, KvError.KvError> =>
  KvError.fail(new KvError.InvalidRequest({ message }))
