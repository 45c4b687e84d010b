/**
 * How the demo prints: in columns, with the time since the start, and in color on a terminal.
 */
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"

export interface Printer {
  readonly line: (text: string) => Effect.Effect<void>
  readonly heading: (text: string) => Effect.Effect<void>
  /** Something that a worker did, or that was done to it. */
  readonly event: (worker: string, text: string) => Effect.Effect<void>
  /** One line of the check. Answers with whether it holds. */
  readonly check: (text: string, holds: boolean) => Effect.Effect<boolean>
}

const palette = [36, 33, 35, 32, 34, 96, 93, 95]

export const make = (names: ReadonlyArray<string>, inColour: boolean): Effect.Effect<Printer> =>
  Effect.map(Clock.currentTimeMillis, (started) => {
    const paint = (code: number, text: string) => inColour ? `\u001b[${code}m${text}\u001b[0m` : text
    const width = Math.max(...names.map((name) => name.length))
    return {
      line: Console.log,
      heading: (text) => Console.log(`\n${paint(1, text)}`),
      event: (worker, text) =>
        Effect.flatMap(Clock.currentTimeMillis, (now) => {
          const seconds = ((now - started) / 1000).toFixed(3).padStart(8)
          const colour = palette[names.indexOf(worker) % palette.length] ?? 37
          return Console.log(`${paint(2, seconds)}  ${paint(colour, worker.padEnd(width))}  ${text}`)
        }),
      check: (text, holds) =>
        Effect.as(Console.log(`  ${holds ? paint(32, "ok    ") : paint(31, "FAILED")}  ${text}`), holds)
    }
  })
