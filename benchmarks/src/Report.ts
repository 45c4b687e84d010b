/**
 * A report in a document: replaces everything between `<!-- measured: NAME -->` and `<!-- /measured -->` by the
 * results, so that no number is copied by hand.
 *
 * The names are `machine`, those of the scenarios, `goals`, and `goals-postgres` for those that begin with `Postgres: `.
 */
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"
import { cpus } from "node:os"
import type { GoalResult } from "./Goals.ts"
import type { Options } from "./Measure.ts"
import type { Row } from "./Row.ts"
import * as Table from "./Table.ts"

/** What a run has measured. */
export interface Results {
  /** The rows of complete scenarios. */
  readonly rows: ReadonlyArray<Row>
  readonly goalResults: ReadonlyArray<GoalResult>
  readonly options: Options
  /** The version of the server. */
  readonly etcd: string
}

/** The machine and the goals, as they stand in the document. */
export const print = (results: Results): string =>
  ["machine", "goals", ...groups.map((group) => `goals-${group}`)].flatMap((name) => contentOf(name, results) ?? [])
    .join("\n\n")

/** The document with the results of this run. Parts that were not measured stay as they are. */
export const update = (file: string, results: Results): Effect.Effect<string, unknown> =>
  Effect.try({
    try: () =>
      readFileSync(file, "utf8").replace(parts, (part, begin: string, name: string, earlier: string, end: string) => {
        const content = contentOf(name, results, earlier)
        return content === undefined ? part : `${begin}\n\n${content}\n\n${end}`
      }),
    catch: (cause) => cause
  })

const parts = /(<!-- measured: ([\w-]+) -->)([\s\S]*?)(<!-- \/measured -->)/g

const contentOf = (name: string, results: Results, earlier = ""): string | undefined => {
  const { rows } = results
  if (name === "machine") return machine(results)
  if (name === "goals") return goals(results, "", earlier)
  if (name.startsWith("goals-")) return goals(results, name.slice(6), earlier)
  const found = rows.filter((row) => row.scenario === name)
  return found.length === 0 ? undefined : Table.markdown(Table.ofRows(found))
}

const groups: ReadonlyArray<string> = ["postgres"]

/** The goals of an earlier table, each with the result of this run if it was measured: those of a group, or of none. */
const goals = (results: Results, group: string, earlier: string): string | undefined => {
  const goalResults = results.goalResults.filter(({ what }) =>
    (groups.find((name) => what.toLowerCase().startsWith(`${name}: `)) ?? "") === group
  )
  if (goalResults.length === 0) return undefined
  const lines = new Map(
    earlier.split("\n").filter((line) => line.startsWith("| ")).slice(1).map((line) => {
      const cells = line.slice(2, -2).split(" | ").map((cell) => cell.trim())
      return [cells[0]!, cells]
    })
  )
  const table = Table.ofGoals(goalResults)
  for (const line of table.lines) lines.set(line[0]!, [...line])
  return Table.markdown({ ...table, lines: [...lines.values()].filter((cells) => !/^-+$/.test(cells[0]!)) })
}

const machine = ({ etcd, options: { millis, rounds } }: Results): string => {
  const all = cpus()
  return `Measured with Node ${process.versions.node} and etcd ${etcd} together on ${all.length} cores ` +
    `(${all[0]?.model.trim() ?? "unknown"}), in ${rounds} rounds of ${millis} ms for each subject.`
}
