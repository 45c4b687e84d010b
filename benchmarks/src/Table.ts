/**
 * Rows as a table, each with its ratio to the first of its scenario.
 */
import type { Row } from "./Measure.ts"

export const format = (rows: ReadonlyArray<Row>): string => {
  const lines = rows.map((row) => {
    const first = rows.find((other) => other.scenario === row.scenario && other.inFlight === row.inFlight)!
    return [
      row.scenario,
      row.subject,
      `${row.inFlight}`,
      Math.round(row.opsPerSecond).toLocaleString("en"),
      `${(row.opsPerSecond / first.opsPerSecond).toFixed(2)}x`,
      millis(row.p50Ms),
      millis(row.p99Ms),
      row.cpuMicrosPerOp.toFixed(1)
    ]
  })
  const header = ["scenario", "subject", "in flight", "ops/s", "ratio", "p50 ms", "p99 ms", "CPU us/op"]
  const widths = header.map((title, i) => Math.max(title.length, ...lines.map((line) => line[i]!.length)))
  return [header, ...lines].map((line) =>
    line.map((cell, i) => i < 2 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)).join("  ")
  )
    .join("\n")
}

const millis = (value: number): string => Number.isNaN(value) ? "-" : value.toFixed(value < 0.1 ? 4 : 3)
