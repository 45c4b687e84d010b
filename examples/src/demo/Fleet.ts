/**
 * The workers, whatever they run in.
 */
import type * as Effect from "effect/Effect"
import type * as Queue from "effect/Queue"
import type { Message } from "./Worker.ts"

export interface Fleet {
  readonly names: ReadonlyArray<string>
  /** What a worker is: for people. */
  readonly kind: string
  readonly start: Effect.Effect<void>
  /** As a power cut would: without a word to anybody. */
  readonly kill: (name: string) => Effect.Effect<void>
  /** Each worker's last message is `Ended`, whatever became of it. */
  readonly messages: Queue.Dequeue<Message>
}
