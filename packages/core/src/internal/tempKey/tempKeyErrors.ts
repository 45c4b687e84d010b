/**
 * The failures of a temporary key.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as json from "../values/json.ts"

/**
 * `NotApplied`: the failed call changed nothing. `Unknown`: the failure ended work that relied on the key and may have
 * written.
 */
const outcome = Schema.Literals(["NotApplied", "Unknown"]).pipe(
  Schema.withConstructorDefault(Effect.succeed<"NotApplied" | "Unknown">("NotApplied"))
)

/**
 * The temporary key does not exist: its lease was lost, it was deleted, or its scope was closed.
 *
 * @since 0.1.0
 */
export class TempKeyLost extends Schema.Error<TempKeyLost>("@effect-kv/core/TempKey/TempKeyLost")({
  _tag: Schema.tag("TempKeyLost"),
  key: Schema.String,
  /** Why it was lost, in words. */
  reason: Schema.String,
  outcome
}) {
  readonly isRetryable: boolean = false
  override get message(): string {
    return `the temporary key ${JSON.stringify(this.key)} was lost: ${this.reason}`
  }
  override toJSON(): unknown {
    return { ...json.fieldsOf(this), message: this.message }
  }
}

/**
 * Another client has the key. It was not touched.
 *
 * @since 0.1.0
 */
export class TempKeyTaken extends Schema.Error<TempKeyTaken>("@effect-kv/core/TempKey/TempKeyTaken")({
  _tag: Schema.tag("TempKeyTaken"),
  key: Schema.String,
  /** The lease that the key is attached to; `none` for a key without a lease, which does not expire. */
  lease: Schema.Option(Schema.BigInt),
  outcome
}) {
  /** The same call may succeed once the other client has deleted the key or its lease has ended. */
  get isRetryable(): boolean {
    return this.outcome === "NotApplied"
  }
  override get message(): string {
    const holder = Option.match(this.lease, {
      onNone: () => "without a lease; it stays until it is deleted",
      onSome: (lease) => `with lease ${lease.toString(16)}; it goes when that lease ends`
    })
    return `the key ${JSON.stringify(this.key)} exists, ${holder}. Wait for it with onTaken: "wait", or use another key`
  }
  override toJSON(): unknown {
    return { ...json.fieldsOf(this), isRetryable: this.isRetryable, message: this.message }
  }
}

/** The failure with the outcome `Unknown`, for work that relied on the key. */
export const unknownOutcome = (error: TempKeyLost | TempKeyTaken): TempKeyLost | TempKeyTaken =>
  error._tag === "TempKeyLost"
    ? new TempKeyLost({ key: error.key, reason: error.reason, outcome: "Unknown" })
    : new TempKeyTaken({ key: error.key, lease: error.lease, outcome: "Unknown" })
