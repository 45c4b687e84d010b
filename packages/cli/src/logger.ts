/**
 * Logs for people, on standard error: standard output is for results.
 */
import * as Array from "effect/Array"
import * as Cause from "effect/Cause"
import * as Logger from "effect/Logger"
import * as References from "effect/References"

/** One line: the message, then the annotations in parentheses. A cause follows on further lines. */
export const forPeople = Logger.withConsoleError(Logger.make(({ cause, fiber, message }) => {
  const texts = Array.ensure(message).map((part) => typeof part === "string" ? part : JSON.stringify(part))
  const annotations = Object.entries(fiber.getRef(References.CurrentLogAnnotations))
    .map(([name, value]) => `${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`)
  const line = `effect-kv: ${texts.join(": ").replace(/^effect-kv: /, "")}`
  return [
    annotations.length === 0 ? line : `${line} (${annotations.join(", ")})`,
    ...cause.reasons.length === 0 ? [] : [Cause.pretty(cause)]
  ].join("\n")
}))
