/**
 * A logger that collects log entries, for cases about logging.
 */
import type * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as References from "effect/References"

/** One log entry. */
export interface Line {
  readonly level: string
  readonly message: string
  readonly annotations: Readonly<Record<string, unknown>>
}

/** A layer that replaces all loggers, and the entries logged through it so far. */
export const capturing = (): { readonly layer: Layer.Layer<never>; readonly logged: Array<Line> } => {
  const logged: Array<Line> = []
  const logger = Logger.make(({ fiber, logLevel, message }) => {
    logged.push({
      level: logLevel,
      message: Array.isArray(message) ? message.join(" ") : String(message),
      annotations: { ...fiber.getRef(References.CurrentLogAnnotations) }
    })
  })
  return { layer: Logger.layer([logger]), logged }
}
