/**
 * This instance of the service: its name, and how long the others wait for it if it crashes.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"

export class Instance extends Context.Service<Instance, {
  /** Unique in the fleet. */
  readonly name: string
  /** How long a crashed instance stays listed, and leader if it was. */
  readonly ttl: Duration.Input
}>()("examples/app/Instance") {}
