/**
 * One caller's operation, from its arrival to its answer.
 */
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as KvError from "../../values/KvError.ts"
import type * as Op from "../../values/Op.ts"
import { monotonicMillis } from "../values/monotonic.ts"
import type { Footprint } from "./footprint.ts"

export type Answer = Effect.Effect<Op.Response, KvError.KvError>

export interface Member {
  readonly op: Op.Op
  readonly footprint: Footprint
  readonly resume: (answer: Answer) => void
  readonly fiber: Fiber.Fiber<unknown, unknown>
  /** When it came, in milliseconds of the monotonic clock. */
  readonly since: number
  readonly deadline: Duration.Duration
  /** When its deadline passes. */
  readonly endsAt: number
  state: "Waiting" | "Sent" | "Gone"
}

export const now = ({ fiber }: Pick<Member, "fiber">): number => monotonicMillis(fiber.getRef(Clock.Clock))
