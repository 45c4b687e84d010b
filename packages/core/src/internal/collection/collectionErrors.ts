/**
 * The failures of a collection: a key or value that its schema does not accept.
 */
import * as Schema from "effect/Schema"
import type { Outcome } from "../../values/KvError.ts"
import * as json from "../values/json.ts"

const Part = Schema.Literals(["key", "value"])

/**
 * An entry of the store that the schema of the collection does not accept. It names the key and the revision, and never
 * the value.
 *
 * @since 0.1.0
 */
export class DecodeError extends Schema.Error<DecodeError>("@effect-kv/core/KvCollection/DecodeError")({
  _tag: Schema.tag("DecodeError"),
  /** The key in the store, with the collection's prefix. */
  key: Schema.String,
  /** The revision of the write that made the entry what it is. For a deleted key, that of the delete. */
  revision: Schema.BigInt,
  /** Which of the two does not decode. */
  part: Part,
  /** What is wrong, in words, without any part of the value. */
  problem: Schema.String
}) {
  readonly isRetryable: boolean = false
  readonly outcome: Outcome = "NotApplied"
  override get message(): string {
    const what = this.part === "key" ? "the key" : "the value of"
    return `${what} ${JSON.stringify(this.key)} (revision ${this.revision}) does not decode: ${this.problem}`
  }
  override toJSON(): unknown {
    return { ...json.fieldsOf(this), message: this.message }
  }
}

/**
 * A key or value that the program gave, and that its schema cannot encode. Nothing was written.
 *
 * @since 0.1.0
 */
export class EncodeError extends Schema.Error<EncodeError>("@effect-kv/core/KvCollection/EncodeError")({
  _tag: Schema.tag("EncodeError"),
  /** The prefix of the collection. */
  prefix: Schema.String,
  part: Part,
  /** What is wrong and what would be right, in words, without any part of the key or value. */
  problem: Schema.String
}) {
  readonly isRetryable: boolean = false
  readonly outcome: Outcome = "NotApplied"
  override get message(): string {
    return `a ${this.part} for the collection ${JSON.stringify(this.prefix)} cannot be encoded: ${this.problem}`
  }
  override toJSON(): unknown {
    return { ...json.fieldsOf(this), message: this.message }
  }
}
