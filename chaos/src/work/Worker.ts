/**
 * What the workers of a client have in common.
 */
import type * as DistLock from "@effect-kv/core/DistLock"
import type * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import type * as Recorder from "@effect-kv/test-suite/Recorder"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as Dice from "../Dice.ts"

/** A client whose calls are recorded, in one round. */
export interface RecordedClient {
  readonly name: string
  /** Everything that goes through it is in the history. */
  readonly kv: Kv.Kv
  readonly recorder: Recorder.Recorder
  /** Opens another client on the same links, which is recorded under the same name. */
  readonly open: Effect.Effect<Kv.Kv, KvError, Scope.Scope>
  /** What all keys of the round begin with. */
  readonly prefix: string
}

/** One thing that a worker does, chosen by the dice. */
export type Step = (client: RecordedClient, dice: Dice.Dice) => Effect.Effect<unknown, DistLock.Failure>

/** A value that no other write has. */
export const unique = ({ name, recorder }: RecordedClient): Effect.Effect<string> => recorder.value(name)
