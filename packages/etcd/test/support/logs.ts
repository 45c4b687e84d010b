/** What clients log, for tests. */
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as References from "effect/References"

export interface Logged {
  readonly level: string
  readonly message: string
  readonly annotations: Readonly<Record<string, unknown>>
}

/** A list that grows with each line, and a function that lets an effect, and the fibers it starts, log there. */
export const make = () => {
  const lines: Array<Logged> = []
  const logger = Logger.make<unknown, void>(({ fiber, logLevel, message }) => {
    lines.push({
      level: logLevel,
      message: String(message),
      annotations: { ...fiber.getRef(References.CurrentLogAnnotations) }
    })
  })
  const collect = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.provide(effect, Logger.layer([logger]))
  return { lines, collect }
}

/** The endpoints after their last change. */
export const lastEndpoints = (lines: ReadonlyArray<Logged>): ReadonlyArray<string> | undefined => {
  const line = lines.findLast(({ message }) => message === "effect-kv: the endpoints have changed")
  return line === undefined ? undefined : String(line.annotations["endpoints"]).split(",")
}
