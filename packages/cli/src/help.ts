/**
 * The text of `--help` and of wrong arguments, at most 80 columns wide. The overview of all commands fits a screen of 24
 * lines.
 */
import type { CliError } from "effect/cli/CliError"
import type * as CliOutput from "effect/cli/CliOutput"
import type { FlagDoc, HelpDoc, SubcommandGroupDoc } from "effect/cli/HelpDoc"
import * as Console from "effect/Console"
import * as Option from "effect/Option"
import * as output from "./output.ts"

const width = 80

/** Help goes to standard output if it was requested. What is wrong with arguments goes to standard error. */
export const presenter: CliOutput.Presenter = {
  present: (event) => {
    switch (event._tag) {
      case "Version":
        return Console.log(`${event.name} ${event.version}`)
      case "Help":
        return event.reason === "Requested" ? Console.log(format(event.helpDoc)) : Console.error(format(event.helpDoc))
      case "InvalidInvocation":
        return output.wrongArguments(
          wrong(event.commandPath, event.errors),
          event.errors.map(({ message }) => message)
        )
    }
  }
}

const wrong = (commandPath: ReadonlyArray<string>, errors: ReadonlyArray<CliError>): string =>
  [
    ...errors.map(({ message }) => `effect-kv: ${message}`),
    `Run '${commandPath.join(" ")} --help' for what it accepts.`
  ].join("\n")

/** The text of `--help`. */
export const format = (doc: HelpDoc): string =>
  doc.subcommands === undefined ? ofCommand(doc) : overview(doc, doc.subcommands)

const overview = (doc: HelpDoc, groups: ReadonlyArray<SubcommandGroupDoc>): string => {
  const rows = groups.flatMap(({ commands, group }) =>
    commands.map(({ description, name, shortDescription }, index) =>
      [index === 0 ? group ?? "" : "", name, shortDescription ?? description] as const
    )
  )
  const [first, second] = [0, 1].map((column) => Math.max(...rows.map((row) => row[column]!.length)) + 2)
  return [
    `${doc.description}`,
    "Usage: effect-kv <command> [flags]    Help: effect-kv <command> --help",
    "",
    ...rows.map(([group, name, description]) => `${group.padEnd(first!)}${name.padEnd(second!)}${description}`),
    "",
    ...wrap(`Flags: ${[...doc.flags, ...doc.globalFlags ?? []].map(({ name }) => `--${name}`).join(" ")}`, 0, 7)
  ].join("\n")
}

const ofCommand = (doc: HelpDoc): string => {
  const sections: Array<ReadonlyArray<string>> = [
    [`Usage: ${doc.usage.replace("[<command...>]", "-- <command...>")}`],
    wrap(doc.description, 0, 0),
    table((doc.args ?? []).map((arg) => [arg.name, Option.getOrElse(arg.description, () => "")])),
    flags("Flags:", doc.flags),
    flags("Flags of all commands:", [...doc.inheritedFlags ?? [], ...doc.globalFlags ?? []]),
    doc.examples === undefined ? [] : [
      "Examples:",
      ...doc.examples.flatMap((
        { command, description }
      ) => [...description ? [`  # ${description}`] : [], `  ${command}`])
    ]
  ]
  return sections.filter(({ length }) => length > 0).map((lines) => lines.join("\n")).join("\n\n")
}

const flags = (title: string, docs: ReadonlyArray<FlagDoc>): ReadonlyArray<string> =>
  docs.length === 0 ? [] : [
    title,
    ...table(docs.map((doc) => {
      const metavar = doc.type === "boolean" ? "" : ` ${doc.type}`
      return [
        [`--${doc.name}`, ...doc.aliases].join(", ") + (metavar.length > 20 ? "" : metavar),
        Option.getOrElse(doc.description, () => "")
      ]
    }))
  ]

const table = (rows: ReadonlyArray<readonly [name: string, text: string]>): ReadonlyArray<string> => {
  const column = Math.max(...rows.map(([name]) => name.length)) + 4
  return rows.flatMap(([name, text]) => wrap(`${`  ${name}`.padEnd(column)}${text}`, column, column))
}

/** Breaks a line at spaces. The part before `from` is kept as it is, and further lines are indented. */
const wrap = (line: string, from: number, indent: number): ReadonlyArray<string> => {
  if (line.length <= width) return [line]
  const space = line.lastIndexOf(" ", width)
  if (space <= Math.max(from, indent)) return [line]
  return [line.slice(0, space), ...wrap(`${" ".repeat(indent)}${line.slice(space + 1)}`, indent, indent)]
}
