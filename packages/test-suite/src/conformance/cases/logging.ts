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

/** What a backend reports of its endpoints, which a stall of the machine may cause in any case. */
const isOfEndpoint = ({ annotations }: Line): boolean => "endpoint" in annotations

/** A layer that replaces all loggers, and the entries logged through it so far, except those of endpoints. */
export const capturing = (): { readonly layer: Layer.Layer<never>; readonly logged: Array<Line> } => {
  const logged: Array<Line> = []
  const logger = Logger.make(({ fiber, logLevel, message }) => {
    const line = {
      level: logLevel,
      message: Array.isArray(message) ? message.join(" ") : String(message),
      annotations: { ...fiber.getRef(References.CurrentLogAnnotations) }
    }
    if (!isOfEndpoint(line)) logged.push(line)
  })
  return { layer: Logger.layer([logger]), logged }
}
