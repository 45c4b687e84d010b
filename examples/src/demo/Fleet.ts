/**
 * The workers of the demo, whether fibers or processes.
 */
import type * as Effect from "effect/Effect"
import type * as Queue from "effect/Queue"
import type { Message } from "./Worker.ts"

export interface Fleet {
  readonly names: ReadonlyArray<string>
  /** What the workers run in, for the heading. */
  readonly kind: string
  readonly start: Effect.Effect<void>
  /** Kills a worker as a power failure would: without any cleanup. */
  readonly kill: (name: string) => Effect.Effect<void>
  /** Every worker's last message is `Ended`, however it ended. */
  readonly messages: Queue.Dequeue<Message>
}
