/** `effect-kv txn`: executes a transaction in JSON. */
import { Kv } from "@effect-kv/core/Kv"
import type * as Op from "@effect-kv/core/Op"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Result from "effect/Result"
import * as connection from "../connection.ts"
import * as exitCodes from "../exitCodes.ts"
import * as input from "../input.ts"
import * as output from "../output.ts"
import { parse } from "../txn/parse.ts"
import * as values from "../values.ts"
import * as flags from "./flags.ts"

export const txn = Command.make(
  "txn",
  {
    file: Argument.String("file").pipe(
      Argument.withDescription("A file with the transaction; default: standard input"),
      Argument.withDefault("-")
    ),
    yes: flags.yes
  },
  Effect.fnUntraced(function*({ file, yes }) {
    const text = yield* textOf(file)
    const transaction = yield* Result.match(parse(text), {
      onFailure: (message) => Effect.fail(new exitCodes.DataError({ message })),
      onSuccess: Effect.succeed
    })
    const deleted = [...ranges(transaction)]
    if (deleted.length > 0) {
      const { prefix } = yield* connection.settings
      const what = deleted.map((range) => JSON.stringify(`${prefix}${range}`)).join(", ")
      yield* input.consent(yes, `Delete all keys under ${what}?`, `deleting all keys under ${what}`)
    }
    const kv = yield* Kv
    const response = yield* kv.txn(transaction)
    yield* Console.log(output.toJson(responseToJson(response)))
    if (!response.succeeded) return yield* new exitCodes.Exit({ code: exitCodes.no })
  }, connection.onStore)
).pipe(
  Command.withShortDescription("Executes a transaction in JSON"),
  Command.withDescription(
    "Reads a transaction with the lists if, then and else, executes it at one revision, and prints the responses as JSON. " +
      "The exit code is 1 if a condition did not hold, so that else was executed."
  ),
  Command.withExamples([
    {
      command: `echo '{"if":[{"missing":"owner"}],\n    "then":[{"put":"owner","value":"me"}]}' | effect-kv txn`
    }
  ])
)

const textOf = Effect.fnUntraced(function*(file: string) {
  if (file === "-") return new TextDecoder().decode(yield* input.stdin("the transaction"))
  const fs = yield* FileSystem.FileSystem
  return yield* fs.readFileString(file).pipe(
    Effect.mapError(({ message }) => new exitCodes.DataError({ message: `the file cannot be read: ${message}` }))
  )
})

/** The prefixes of all ranges that it may delete. */
const ranges = function*(op: Op.Op): Generator<string> {
  if (op._tag === "Delete" && op.range._tag === "Prefix") yield op.range.prefix
  if (op._tag === "Txn") { for (const each of [...op.then, ...op.else]) yield* ranges(each) }
}

const responseToJson = (response: Op.Response<Op.Op>): object => {
  switch (response._tag) {
    case "Txn":
      return {
        type: "txn",
        succeeded: response.succeeded,
        revision: response.revision,
        responses: response.responses.map(responseToJson)
      }
    case "Range":
      return {
        type: "get",
        count: response.count,
        more: response.more,
        entries: response.entries.map(values.entryToJson)
      }
    case "Put":
      return { type: "put", revision: response.revision }
    case "Delete":
      return { type: "delete", deleted: response.deleted, revision: response.revision }
  }
}
