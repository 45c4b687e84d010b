/** `effect-kv put`: writes a value, byte for byte. */
import * as Compare from "@effect-kv/core/Compare"
import { Kv } from "@effect-kv/core/Kv"
import * as Op from "@effect-kv/core/Op"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as connection from "../connection.ts"
import * as exitCodes from "../exitCodes.ts"
import * as input from "../input.ts"
import * as output from "../output.ts"
import * as flags from "./flags.ts"

export const put = Command.make(
  "put",
  {
    key: Argument.String("key").pipe(Argument.withDescription("The key")),
    value: Argument.String("value").pipe(
      Argument.withDescription("The value; without it, or with '-', standard input is read"),
      Argument.optional
    ),
    base64: flags.base64("The value is base64"),
    ifRevision: flags.revision("if-revision", "Only if the key was last written at this revision; 0: if it is missing"),
    lease: flags.lease
  },
  Effect.fnUntraced(function*({ base64, ifRevision, key, lease, value }) {
    const bytes = yield* input.value(value, base64)
    const kv = yield* Kv
    const response = yield* kv.txn({
      if: Option.toArray(Option.map(ifRevision, (revision) => Compare.modRevision(key, "=", revision))),
      then: [Op.put(key, bytes, { lease: Option.getOrUndefined(lease) })],
      else: [Op.get(key, { keysOnly: true })]
    })
    if (response.succeeded) {
      return yield* output.result(`revision ${response.revision}`, { revision: response.revision })
    }
    const current = response.responses[0].entries[0]?.modRevision ?? 0n
    yield* output.result(
      current === 0n
        ? "not written: the key does not exist"
        : `not written: the key was last written at revision ${current}`,
      { revision: null, modRevision: current }
    )
    return yield* new exitCodes.Exit({ code: exitCodes.no })
  }, connection.onStore)
).pipe(
  Command.withShortDescription("Writes a value"),
  Command.withDescription(
    "Writes a value and prints the revision of the write. Without --lease, the key has no lease afterwards. The exit " +
      "code is 1 if --if-revision does not hold."
  ),
  Command.withExamples([
    { command: "effect-kv put config/limit 10" },
    { command: "effect-kv put config/logo < logo.png" }
  ])
)
