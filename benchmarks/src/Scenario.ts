/**
 * A scenario and what it runs against.
 */
import type { EtcdCluster } from "@effect-kv/test-suite/EtcdCluster"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Options, Row } from "./Measure.ts"

export interface Environment {
  readonly etcd: EtcdCluster["Service"]
  readonly options: Options
  readonly quick: boolean
}

export interface Scenario {
  readonly name: string
  readonly run: (environment: Environment) => Effect.Effect<ReadonlyArray<Row>, unknown, Scope.Scope>
}
