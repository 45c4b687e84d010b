/**
 * What commands read beside their flags: values from arguments or standard input, and a person's consent.
 */
import * as Prompt from "effect/cli/Prompt"
import { TerminalCapabilities } from "effect/cli/TerminalCapabilities"
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import * as exitCodes from "./exitCodes.ts"

/** All bytes of standard input. Fails if that is a terminal: the user would not know that input is expected. */
export const stdin = (
  what: string
): Effect.Effect<Uint8Array, exitCodes.UsageError | exitCodes.DataError, Stdio.Stdio> =>
  Effect.gen(function*() {
    const stdio = yield* Stdio.Stdio
    if (yield* stdio.stdinIsTerminal) {
      return yield* new exitCodes.UsageError({ message: `${what} is missing: give it as an argument, or pipe it in` })
    }
    const chunks = yield* Stream.runCollect(stdio.stdin).pipe(
      Effect.mapError(({ message }) =>
        new exitCodes.DataError({ message: `standard input cannot be read: ${message}` })
      )
    )
    return new Uint8Array(Buffer.concat(chunks))
  })

/** A value from an argument, or without one (or with `-`) from standard input. */
export const value = (argument: Option.Option<string>, isBase64: boolean) =>
  Effect.gen(function*() {
    const given = Option.getOrElse(argument, () => "-")
    const bytes = given === "-" ? yield* stdin("the value") : new TextEncoder().encode(given)
    return isBase64 ? yield* fromBase64(new TextDecoder().decode(bytes)) : bytes
  })

/** Decodes base64. White space is ignored, because tools break lines. */
export const fromBase64 = (text: string): Effect.Effect<Uint8Array, exitCodes.DataError> =>
  Result.match(Base64.decode(text.replace(/\s/g, "")), {
    onFailure: () => Effect.fail(new exitCodes.DataError({ message: "the value is not base64" })),
    onSuccess: Effect.succeed
  })

/**
 * Whether a destructive step may be taken: because of `--yes`, or because a person says so. Fails with `UsageError` if
 * there is no terminal to ask on.
 */
export const consent = Effect.fnUntraced(function*(isGiven: boolean, question: string, what: string) {
  if (isGiven) return
  const { canPrompt } = yield* TerminalCapabilities
  if (!canPrompt) {
    return yield* new exitCodes.UsageError({ message: `${what} needs --yes, because there is no terminal to ask on` })
  }
  const isYes = yield* Prompt.run(Prompt.Confirm({ message: question })).pipe(
    Effect.catchTag("QuitError", () => Effect.succeed(false))
  )
  if (!isYes) return yield* new exitCodes.Exit({ code: exitCodes.no })
})
