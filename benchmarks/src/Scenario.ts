/**
 * A scenario and what it runs against.
 */
import type { EtcdCluster } from "@effect-kv/test-suite/verification"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Options } from "./Measure.ts"
import type { Row } from "./Row.ts"
import type { Stores } from "./subjects/stores.ts"

export interface Environment {
  /** A server, begun when it is first asked for: what is measured in memory needs none. */
  readonly etcd: Effect.Effect<EtcdCluster.EtcdCluster["Service"], unknown>
  /** What is compared in memory, filled when it is first asked for. */
  readonly stores: Effect.Effect<Stores, unknown>
  readonly options: Options
  readonly quick: boolean
}

export interface Scenario {
  readonly name: string
  readonly run: (environment: Environment) => Effect.Effect<ReadonlyArray<Row>, unknown, Scope.Scope>
}
