/**
 * The failure of a temporary key.
 */
import * as Schema from "effect/Schema"

/** A temporary key that is gone and stays so. */
export class TempKeyLost extends Schema.Error<TempKeyLost>("@effect-kv/core/TempKey/TempKeyLost")({
  _tag: Schema.tag("TempKeyLost"),
  key: Schema.String
}) {
  override get message(): string {
    return `the temporary key ${JSON.stringify(this.key)} is gone: its lease was lost or it was deleted`
  }
}
