/** `effect-kv delete`: deletes a key, or all keys under a prefix after asking. */
import * as KeyRange from "@effect-kv/core/KeyRange"
import { Kv } from "@effect-kv/core/Kv"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as connection from "../connection.ts"
import * as input from "../input.ts"
import * as output from "../output.ts"
import * as flags from "./flags.ts"

export const delete_ = Command.make(
  "delete",
  {
    key: Argument.String("key").pipe(Argument.withDescription("The key, or with --under the prefix of the keys")),
    under: flags.prefix("Deletes all keys that begin with it; asks, or needs --yes"),
    yes: flags.yes
  },
  Effect.fnUntraced(function*({ key, under, yes }) {
    const kv = yield* Kv
    const range = under ? KeyRange.prefix(key) : KeyRange.key(key)
    if (under && !yes) {
      const count = yield* kv.count(range)
      const whole = `${(yield* connection.settings).prefix}${key}`
      const what = `${count} ${count === 1 ? "key" : "keys"} ${
        whole === "" ? "of the whole store" : `under ${JSON.stringify(whole)}`
      }`
      yield* input.consent(yes, `Delete ${what}?`, `deleting ${what}`)
    }
    const { deleted, revision } = yield* kv.deleteRange(range)
    yield* output.result(`deleted ${deleted} ${deleted === 1 ? "key" : "keys"}`, { deleted, revision })
  }, connection.onExistingStore)
).pipe(
  Command.withShortDescription("Deletes a key, or all under a prefix"),
  Command.withDescription(
    "Deletes a key, or with --under all keys that begin with it. To free a lock, use 'effect-kv release'."
  )
)
