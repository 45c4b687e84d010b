/**
 * What all workers share: their client, and the services of its application.
 */
import type * as DistSemaphore from "@effect-kv/core/DistSemaphore"
import type * as Election from "@effect-kv/core/Election"
import * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import type * as Op from "@effect-kv/core/Op"
import type * as PostgresStore from "@effect-kv/postgres/PostgresStore"
import type { Recorder } from "@effect-kv/test-suite/verification"
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { Notes } from "../Notes.ts"
import type * as SeededRandom from "../SeededRandom.ts"

/** A client of one round whose calls are recorded. */
export interface RecordedClient {
  readonly name: string
  /** Every call through it is in the history. */
  readonly kv: Kv.Kv
  readonly recorder: Recorder.Recorder
  /** Opens another client on the same links, with a service of its own. It is recorded under the same name. */
  readonly open: Effect.Effect<Pick<RecordedClient, "kv" | "counters">, KvError, Scope.Scope>
  /** The notes of the round, which all its clients make. */
  readonly notes: Notes
  /** The prefix of all keys of the round. */
  readonly prefix: string
  /** The service of the application that writes counters. It was built before any lock was acquired. */
  readonly counters: Counters["Service"]
  readonly application?: Application | undefined
}

/**
 * An application that has tables in the database of the store, and fences its own transactions. Its `Kv` is that of the
 * layer, because the fence of a SQL transaction takes no other. So its calls are not recorded.
 */
export interface Application {
  readonly kv: Kv.Kv
  readonly sql: PgClient.PgClient
  readonly store: typeof PostgresStore.PostgresStore.Service
}

/** Writes counters through the `Kv` that it captured when its layer was built, as services do. */
export class Counters extends Context.Service<Counters, {
  readonly save: (counter: string, value: string) => Effect.Effect<Op.PutResponse, KvError>
}>()("@effect-kv/chaos/Counters") {
  static readonly layer = (how: (write: Write) => Write) =>
    Layer.effect(Counters)(
      Effect.map(Kv.Kv, (kv) => ({ save: (counter, value) => how(kv.put(counter, value)) }))
    )
}

/** A write of {@link Counters}. */
export type Write = Effect.Effect<Op.PutResponse, KvError>

/** One step of a worker, with random choices. */
export type Step = (
  client: RecordedClient,
  random: SeededRandom.SeededRandom
) => Effect.Effect<unknown, DistSemaphore.Failure | Election.Failure>

/** A value that no other write has. */
export const unique = ({ name, recorder }: RecordedClient): Effect.Effect<string> => recorder.value(name)
