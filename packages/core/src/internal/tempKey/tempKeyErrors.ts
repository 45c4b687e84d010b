/**
 * The failures of a temporary key.
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as json from "../values/json.ts"

/** A temporary key that is not there: its lease was lost, it was deleted, or its scope was closed. */
export class TempKeyLost extends Schema.Error<TempKeyLost>("@effect-kv/core/TempKey/TempKeyLost")({
  _tag: Schema.tag("TempKeyLost"),
  key: Schema.String,
  /** How it was lost. */
  how: Schema.String
}) {
  override get message(): string {
    return `the temporary key ${JSON.stringify(this.key)} was lost: ${this.how}`
  }
  override toJSON(): unknown {
    return { ...json.fieldsOf(this), message: this.message }
  }
}

/** Another client has the key. It was not touched. */
export class TempKeyTaken extends Schema.Error<TempKeyTaken>("@effect-kv/core/TempKey/TempKeyTaken")({
  _tag: Schema.tag("TempKeyTaken"),
  key: Schema.String,
  /** The lease that the key is attached to; `none` for a key without a lease, which does not expire. */
  lease: Schema.Option(Schema.BigInt)
}) {
  override get message(): string {
    const holder = Option.match(this.lease, {
      onNone: () => "without a lease; it stays until it is deleted",
      onSome: (lease) => `with lease ${lease.toString(16)}; it goes when that lease ends`
    })
    return `the key ${JSON.stringify(this.key)} exists, ${holder}. Wait for it with onTaken: "wait", or use another key`
  }
  override toJSON(): unknown {
    return { ...json.fieldsOf(this), message: this.message }
  }
}
