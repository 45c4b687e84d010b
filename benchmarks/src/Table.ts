/**
 * Tables of the result: plain text for a terminal, or Markdown.
 */
import type { GoalResult } from "./Goals.ts"
import type { Interval, Row } from "./Row.ts"

/** A table with a title for each column. The first `left` columns are text, the others numbers. */
interface Table {
  readonly titles: ReadonlyArray<string>
  readonly lines: ReadonlyArray<ReadonlyArray<string>>
  readonly left: number
}

export const plain = (table: Table): string => {
  const widths = widthsOf(table)
  return [table.titles, ...table.lines].map((line) => padded(table, widths, line).join("  ").trimEnd()).join("\n")
}

/** Formatted as the formatter expects Markdown. */
export const markdown = (table: Table): string => {
  const widths = widthsOf(table)
  const row = (cells: ReadonlyArray<string>) => `| ${cells.join(" | ")} |`
  const rule = widths.map((width, i) => i < table.left ? "-".repeat(width) : `${"-".repeat(width - 1)}:`)
  return [
    row(padded(table, widths, table.titles)),
    row(rule),
    ...table.lines.map((line) => row(padded(table, widths, line)))
  ].join("\n")
}

const widthsOf = ({ lines, titles }: Table): ReadonlyArray<number> =>
  titles.map((title, i) => Math.max(title.length, 3, ...lines.map((line) => line[i]!.length)))

const padded = ({ left }: Table, widths: ReadonlyArray<number>, line: ReadonlyArray<string>): ReadonlyArray<string> =>
  line.map((cell, i) => i < left ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))

/** The table of a scenario's rows. */
export const ofRows = (rows: ReadonlyArray<Row>): Table => {
  const [{ ratioTo }] = rows as [Row]
  const hasMemory = rows.some((row) => row.memory !== undefined)
  const hasStorage = rows.some((row) => row.storage !== undefined)
  const isPaired = rows.some((row) => row.paired !== undefined)
  const hasSizes = rows.some((row) => row.gzippedBytes !== undefined)
  return {
    titles: [
      "subject",
      "in flight",
      "ops/s",
      "lowest - highest",
      `against ${ratioTo}`,
      "lowest - highest",
      "p50 ms",
      "p99 ms",
      "CPU us/op",
      ...(isPaired ? ["throughput (95 %)", "CPU (95 %)"] : []),
      ...(hasSizes ? ["minified kB", "gzipped kB"] : []),
      ...(hasStorage ? ["entry MB", "log MB", "indexes MB", "log rows"] : []),
      ...(hasMemory ? ["kB each", "cycles", "growth kB"] : [])
    ],
    lines: rows.map((row) => [
      row.subject,
      `${row.inFlight}`,
      rate(row.opsPerSecond),
      `${rate(row.opsPerSecondMin)} - ${rate(row.opsPerSecondMax)}`,
      ...(row.subject === row.ratioTo
        ? ["1x", ""]
        : [times(row.ratio), `${times(row.ratioMin)} - ${times(row.ratioMax)}`]),
      millis(row.p50Ms),
      millis(row.p99Ms),
      rate(row.cpuMicrosPerOp),
      ...(isPaired ? [interval(row.paired?.throughput), interval(row.paired?.cpu)] : []),
      ...(hasSizes ? [kilobytes(row.minifiedBytes), kilobytes(row.gzippedBytes)] : []),
      ...(hasStorage
        ? [
          ...[row.storage?.entryBytes, row.storage?.logBytes, row.storage?.indexBytes].map(megabytes),
          row.storage === undefined ? "" : rate(row.storage.rows)
        ]
        : []),
      ...(hasMemory
        ? [kilobytes(row.memory?.eachBytes), `${row.memory?.cycles ?? ""}`, kilobytes(row.memory?.growthBytes)]
        : [])
    ]),
    left: 1
  }
}

export const ofGoals = (goalResults: ReadonlyArray<GoalResult>): Table => ({
  titles: ["goal", "wanted", "measured", "reached"],
  lines: goalResults.map(({ reached, text, wanted, what }) => [what, wanted, text, reached ? "yes" : "NO"]),
  left: 4
})

/** Three significant digits, or all digits before the decimal point. */
const rate = (value: number): string =>
  value >= 100 ? Math.round(value).toLocaleString("en") : value.toPrecision(value < 1 ? 2 : 3)

const times = (value: number): string => `${value >= 100 ? Math.round(value) : value.toPrecision(value < 1 ? 2 : 3)}x`

/** A difference in percent, with the interval of its median. */
const interval = (found: Interval | undefined): string =>
  found === undefined ? "" : `${percent(found.median)} (${percent(found.low)} to ${percent(found.high)})`

const percent = (ratio: number): string => `${ratio < 1 ? "-" : "+"}${Math.abs((ratio - 1) * 100).toFixed(1)} %`

const millis = (value: number): string => value.toFixed(value < 0.1 ? 5 : value < 10 ? 3 : 1)

const megabytes = (bytes: number | undefined): string => bytes === undefined ? "" : (bytes / 1_000_000).toFixed(1)

const kilobytes = (bytes: number | undefined): string => bytes === undefined ? "" : (bytes / 1000).toFixed(1)
