/**
 * A scenario and what it runs against.
 */
import type { EtcdCluster, PostgresServer } from "@effect-kv/test-suite/verification"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Options } from "./Measure.ts"
import type { Row } from "./Row.ts"
import type { Stores } from "./subjects/stores.ts"

/** A Postgres server that waits for its disk at each commit, as it does by default, or one that does not. */
export type PostgresKind = "durable" | "volatile"

export interface Environment {
  /** The server. It starts on first use, because memory scenarios need none. */
  readonly etcd: Effect.Effect<EtcdCluster.EtcdCluster["Service"], unknown>
  /** The Postgres server of that kind. It starts on first use. */
  readonly postgres: (kind: PostgresKind) => Effect.Effect<PostgresServer.PostgresServer["Service"], unknown>
  /** The memory stores. They are filled on first use. */
  readonly stores: Effect.Effect<Stores, unknown>
  readonly options: Options
  readonly quick: boolean
  /** Whether to measure only what the goals need. */
  readonly goals: boolean
  /** The subjects to measure with so many calls in flight: all, or those that the goals need. */
  readonly needed: <Subject extends { readonly name: string }>(
    inFlight: number,
    subjects: ReadonlyArray<Subject>
  ) => ReadonlyArray<Subject>
}

export interface Scenario {
  readonly name: string
  readonly run: (environment: Environment) => Effect.Effect<ReadonlyArray<Row>, unknown, Scope.Scope>
}
