/**
 * A member of a batch: one caller's operation, from its arrival to its response.
 */
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as KvError from "../../values/KvError.ts"
import type * as Op from "../../values/Op.ts"
import { monotonicMillis } from "../values/monotonic.ts"
import type { Footprint } from "./footprint.ts"

/** How a call ends: with the response, or with the failure. */
export type CallResult = Effect.Effect<Op.Response, KvError.KvError>

export interface BatchMember {
  readonly op: Op.Op
  readonly footprint: Footprint
  readonly resume: (result: CallResult) => void
  readonly fiber: Fiber.Fiber<unknown, unknown>
  /** When the call arrived, in milliseconds of the monotonic clock. */
  readonly since: number
  readonly deadline: Duration.Duration
  /** When its deadline passes. */
  readonly endsAt: number
  /** `Gone`: the caller has its result or was interrupted. */
  state: "Queued" | "Sent" | "Gone"
}

export const now = ({ fiber }: Pick<BatchMember, "fiber">): number => monotonicMillis(fiber.getRef(Clock.Clock))
