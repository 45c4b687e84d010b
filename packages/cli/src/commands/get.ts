/** `effect-kv get`: the value of a key, byte for byte. */
import { Kv } from "@effect-kv/core/Kv"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as Option from "effect/Option"
import * as connection from "../connection.ts"
import * as exitCodes from "../exitCodes.ts"
import * as output from "../output.ts"
import { root } from "../root.ts"
import * as values from "../values.ts"
import * as flags from "./flags.ts"

export const get = Command.make(
  "get",
  {
    key: Argument.String("key").pipe(Argument.withDescription("The key")),
    base64: flags.base64("Prints the value as base64"),
    revision: flags.revision("revision", "The value as of this revision of the store")
  },
  Effect.fnUntraced(function*({ base64, key, revision }) {
    const kv = yield* Kv
    const found = yield* kv.getEntry(key, { revision: Option.getOrUndefined(revision) })
    if (Option.isNone(found)) {
      yield* output.progress(`the key ${JSON.stringify(key)} does not exist`)
      return yield* new exitCodes.Exit({ code: exitCodes.no })
    }
    const entry = found.value
    const { json } = yield* root
    if (json || base64) yield* output.result(Base64.encode(entry.value), values.entryToJson(entry))
    else yield* output.bytes(entry.value)
  }, connection.onExistingStore)
).pipe(
  Command.withShortDescription("Prints the value of a key"),
  Command.withDescription(
    "Prints the value of a key, byte for byte. A terminal gets a line end as well. The exit code is 1 if the key does " +
      "not exist. With --json, a value that is not UTF-8 is in the field base64."
  )
)
