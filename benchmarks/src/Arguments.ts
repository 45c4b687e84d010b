/**
 * Command-line arguments of the benchmark.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { parseArgs } from "node:util"
import * as Goals from "./Goals.ts"
import type { Scenario } from "./Scenario.ts"

export interface Arguments {
  /** Fewer and shorter rounds. */
  readonly quick: boolean
  /** Only what the goals need. */
  readonly goals: boolean
  readonly scenarios: ReadonlyArray<Scenario>
  /** The file to write the rows to, as JSON. */
  readonly json: string | undefined
  /** The file to draw the chart to. */
  readonly svg: string | undefined
  /** The document whose tables to replace, or `-` to print the table of goals. */
  readonly markdown: string | undefined
}

export class ArgumentError extends Data.TaggedError("ArgumentError")<{ readonly message: string }> {}

export const usage =
  `npm run bench -- [--quick] [--goals] [--only NAME]... [--json FILE] [--svg FILE] [--markdown FILE | --markdown -]`

export const parse = (
  args: ReadonlyArray<string>,
  scenarios: ReadonlyArray<Scenario>
): Effect.Effect<Arguments, ArgumentError> =>
  Effect.gen(function*() {
    const { only, ...rest } = yield* Effect.try({
      try: () => values(args),
      catch: (cause) => new ArgumentError({ message: `${cause instanceof Error ? cause.message : cause}\n${usage}` })
    })
    const unknown = only?.filter((name) => !scenarios.some((scenario) => scenario.name === name)) ?? []
    if (unknown.length > 0) {
      return yield* new ArgumentError({
        message: `there is no scenario ${unknown.map((name) => `"${name}"`).join(", ")}; there are ` +
          scenarios.map((scenario) => scenario.name).join(", ")
      })
    }
    const isWanted = (name: string): boolean => only?.includes(name) ?? (!rest.goals || Goals.scenarios.has(name))
    return { ...rest, scenarios: scenarios.filter(({ name }) => isWanted(name)) }
  })

const values = (args: ReadonlyArray<string>) => {
  const { goals, json, markdown, only, quick, svg } = parseArgs({
    args: [...args],
    options: {
      quick: { type: "boolean", default: false },
      goals: { type: "boolean", default: false },
      only: { type: "string", multiple: true },
      json: { type: "string" },
      svg: { type: "string" },
      markdown: { type: "string" }
    }
  }).values
  return { quick, goals, only, json, svg, markdown }
}
