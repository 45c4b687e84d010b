/**
 * The failures of a barrier, other than those of the store.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as json from "../values/json.ts"

/**
 * A participant died, or lost its lease, before the barrier opened. All waiters fail with it.
 *
 * A participant that lost its own lease, or whose key was deleted, may not know whether the barrier had opened before.
 * Then the outcome is `Unknown`, and the others may have gone on.
 *
 * @since 0.1.0
 */
export class BarrierBroken extends Schema.Error<BarrierBroken>("@effect-kv/core/Barrier/BarrierBroken")({
  _tag: Schema.tag("BarrierBroken"),
  /** The barrier's name. */
  barrier: Schema.String,
  /** The round that was broken. */
  round: Schema.Int,
  /** The participant that died. */
  participant: Schema.String,
  /** `NotApplied`: the round was broken for all. `Unknown`: it was lost for this participant, and may have opened. */
  outcome: Schema.Literals(["NotApplied", "Unknown"]).pipe(
    Schema.withConstructorDefault(Effect.succeed<"NotApplied" | "Unknown">("NotApplied"))
  )
}) {
  /** The next round can be entered if all know that this one was broken. */
  get isRetryable(): boolean {
    return this.outcome === "NotApplied"
  }
  override get message(): string {
    return `the barrier ${JSON.stringify(this.barrier)} was broken by the death of ${JSON.stringify(this.participant)}`
  }
  override toJSON(): unknown {
    return { ...json.fieldsOf(this), isRetryable: this.isRetryable, message: this.message }
  }
}

/**
 * The participant cannot enter: the barrier has opened (`Closed`), or a participant of that name is in it (`Taken`).
 * Nothing was written.
 *
 * @since 0.1.0
 */
export class BarrierRejected extends Schema.Error<BarrierRejected>("@effect-kv/core/Barrier/BarrierRejected")({
  _tag: Schema.tag("BarrierRejected"),
  /** The barrier's name. */
  barrier: Schema.String,
  /** The participant that wanted to enter. */
  participant: Schema.String,
  reason: Schema.Literals(["Closed", "Taken"])
}) {
  readonly isRetryable: boolean = false
  readonly outcome: "NotApplied" | "Unknown" = "NotApplied"
  override get message(): string {
    return `${JSON.stringify(this.participant)} cannot enter the barrier ${JSON.stringify(this.barrier)}: ${
      this.reason === "Closed"
        ? "it has opened already; enter the next round with onLate: \"next\", or reset the barrier"
        : "a participant with that id is in it; give each participant an id of its own"
    }`
  }
  override toJSON(): unknown {
    return { ...json.fieldsOf(this), message: this.message }
  }
}
