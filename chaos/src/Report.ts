/**
 * A report of a run, as a table.
 */
import * as Availability from "./Availability.ts"
import type { Kind } from "./Fault.ts"
import * as Resources from "./Resources.ts"
import type { Case, Findings } from "./RoundChecker.ts"

/** Everything the report shows of a run. */
export interface Summary {
  readonly title: string
  readonly calls: number
  readonly seconds: number
  readonly events: number
  readonly faults: ReadonlyMap<Kind, number>
  readonly outages: ReadonlyMap<Kind, Availability.Outage>
  /** The longest undisturbed time without each service, in milliseconds. */
  readonly silences: ReadonlyMap<Availability.Service, number>
  readonly findings: Findings
  readonly left: Resources.Resources
  /** The round itself, for further checks. */
  readonly subject: Case
  /** The folder that holds the saved round. */
  readonly saved?: string | undefined
}

/** As lines; the last is `violations: N`. */
export const format = (summary: Summary): string => {
  const { findings } = summary
  const { applied, leases, notApplied } = findings.unknown
  const unknown = applied + notApplied + leases
  const total = [...summary.faults.values()].reduce((a, b) => a + b, 0)
  const { increments } = findings
  return [
    ...findings.violations.map((violation, i) => `violation ${i + 1}: ${violation}`),
    ...(summary.saved === undefined ? [] : [`the history is in ${summary.saved}`]),
    "",
    summary.title,
    ...table([
      ["operations", integer(summary.calls)],
      ["duration", `${summary.seconds.toFixed(1)} s`],
      ["rate", `${integer(summary.calls / summary.seconds)} operations/s`],
      ["events watched", integer(summary.events)],
      [
        "increments under locks",
        `${integer(increments.accepted)} accepted, ${increments.unknown} unknown, ${
          integer(increments.counted)
        } counted`
      ],
      [
        "unknown outcomes",
        `${unknown} (${(unknown / Math.max(1, summary.calls) * 100).toFixed(2)} %): ${applied} applied, ` +
        `${notApplied} not, ${leases} of leases`
      ],
      [
        "longest silence",
        `${[...summary.silences].map(([service, millis]) => `no ${heads[service]} ${seconds(millis)}`).join(", ")}, ` +
        `not counting faults`
      ],
      [
        "measured stalls",
        `event loop ${seconds(findings.stalls.eventLoop)}, servers ${seconds(findings.stalls.servers)}; they excuse ` +
        `${findings.stalls.excused} errors`
      ],
      ...(findings.revokedByDeposed === 0
        ? []
        : [
          ["ended by etcd", `${findings.revokedByDeposed} leases, by a deposed leader (etcd 15247)`] as const
        ]),
      ["faults", integer(total)]
    ]),
    ...faultTable(summary),
    ...table([["left", Resources.format(summary.left)]]),
    `violations: ${findings.violations.length}`
  ].join("\n")
}

const integer = (value: number): string => Math.round(value).toLocaleString("en")

const table = (rows: ReadonlyArray<readonly [string, string]>): ReadonlyArray<string> =>
  rows.map(([title, value]) => `  ${title.padEnd(24)}${value}`)

/** The column heads of the services. */
const heads: Record<Availability.Service, string> = {
  response: "response",
  lock: "lock",
  event: "event",
  temporaryKey: "temporary key"
}

const faultTable = ({ faults, outages }: Summary): ReadonlyArray<string> => {
  if (faults.size === 0) return []
  const header = ["", "times", "no response for", ...Availability.services.map((service) => heads[service])]
  const rows = [...faults].sort(([a], [b]) => a < b ? -1 : 1).map(([kind, count]) => {
    const outage = outages.get(kind)
    const after = Availability.services.map((service) => seconds(outage?.[service]))
    return [kind, `${count}`, seconds(outage?.longest), ...after]
  })
  const line = (cells: ReadonlyArray<string>) =>
    `    ${cells[0]!.padEnd(22)}${cells.slice(1).map((cell, i) => cell.padStart(header[i + 1]!.length + 3)).join("")}`
  return [
    "  by fault: how often, the longest time without a response, and the longest time from its end to the first",
    header,
    ...rows
  ]
    .map((each) => typeof each === "string" ? each : line(each))
}

const seconds = (millis: number | undefined): string => millis === undefined ? "-" : `${(millis / 1000).toFixed(2)} s`
