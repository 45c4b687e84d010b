/**
 * What commands write: results on standard output, everything else on standard error. With `--json`, each result is one
 * line of JSON, and so is an error.
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import * as exitCodes from "./exitCodes.ts"
import { type Root, root } from "./root.ts"

/** Writes a result: the text for people, or with `--json` the value. */
export const result = (text: string, value: unknown): Effect.Effect<void, never, Root> =>
  Effect.flatMap(root, ({ json }) => Console.log(json ? toJson(value) : text))

/** Writes what happens meanwhile, for people. */
export const progress = (message: string): Effect.Effect<void> => Console.error(`effect-kv: ${message}`)

/** Writes a failure. */
export const failure = (failure: Exclude<exitCodes.Failure, exitCodes.Exit>): Effect.Effect<void> =>
  Effect.flatMap(isJson, (json) =>
    Console.error(
      json
        ? toJson({ error: tagOf(failure), message: failure.message, exitCode: exitCodes.of(failure) })
        : `effect-kv: ${failure.message}`
    ))

/** Writes what is wrong with the arguments: the text for people, or the messages as JSON. */
export const wrongArguments = (text: string, messages: ReadonlyArray<string>): Effect.Effect<void> =>
  Effect.flatMap(isJson, (json) =>
    Console.error(
      json ? toJson({ error: "UsageError", message: messages.join("\n"), exitCode: exitCodes.usage }) : text
    ))

const tagOf = (failure: exitCodes.Failure): string => failure._tag === "KvError" ? failure.reason._tag : failure._tag

/**
 * Whether `--json` is among the arguments, which may be what could not be parsed. Those of a command that this process
 * runs do not count.
 */
const isJson: Effect.Effect<boolean> = Effect.flatMap(
  Effect.serviceOption(Stdio.Stdio),
  Option.match({
    onNone: () => Effect.succeed(false),
    onSome: (stdio) => Effect.map(stdio.args, (args) => withoutCommand(args).includes("--json"))
  })
)

/** The arguments of this process, without those of a command that it runs. */
export const withoutCommand = (args: ReadonlyArray<string>): ReadonlyArray<string> => {
  const end = args.indexOf("--")
  return end < 0 ? args : args.slice(0, end)
}

/** One line of JSON. Bigints become decimal strings. */
export const toJson = (value: unknown): string =>
  JSON.stringify(value, (_, part: unknown) => typeof part === "bigint" ? `${part}` : part)

/** Writes bytes to standard output as they are. A terminal gets a line end as well, so that its prompt is on a new line. */
export const bytes = (value: Uint8Array): Effect.Effect<void, never, Stdio.Stdio> =>
  Effect.gen(function*() {
    const stdio = yield* Stdio.Stdio
    const end = (yield* stdio.stdoutIsTerminal) ? ["\n"] : []
    // The process ends when standard output is closed.
    yield* Effect.ignore(
      Stream.run(Stream.make<ReadonlyArray<string | Uint8Array>>(value, ...end), stdio.stdout({ endOnDone: false }))
    )
  })
