/**
 * Tables that fit the terminal: columns that matter less disappear first, then long texts are cut.
 */
import { displayWidth, pad, truncate } from "./cells.ts"

/** A column of a table. */
export interface Column {
  readonly title: string
  /** Columns with the largest number disappear first if the terminal is narrow. Default: it always stays. */
  readonly dropped?: number
  /** Whether its texts may be cut. */
  readonly isLong?: boolean
}

/** The cells of a row, one for each column. */
export type Row = ReadonlyArray<string>

const gap = 2
/** The least width of a column whose texts may be cut. */
const least = 10

/** The lines of the table: a line of titles, then the rows. Without a width, nothing is cut. */
export const lines = (
  columns: ReadonlyArray<Column>,
  rows: ReadonlyArray<Row>,
  width: number | undefined
): ReadonlyArray<string> => {
  const wanted = columns.map(({ title }, i) =>
    Math.max(displayWidth(title), ...rows.map((row) => displayWidth(row[i]!)))
  )
  const shown = visible(columns, wanted, width)
  const widths = width === undefined ? wanted : fitted(columns, wanted, shown, width)
  const line = (row: Row): string =>
    shown.map((i) => pad(truncate(row[i]!, widths[i]!), widths[i]!)).join(" ".repeat(gap)).trimEnd()
  const all = [columns.map(({ title }) => title), ...rows].map(line)
  return width === undefined ? all : all.map((text) => truncate(text, width))
}

/** The indices of the columns that there is room for. */
const visible = (
  columns: ReadonlyArray<Column>,
  wanted: ReadonlyArray<number>,
  width: number | undefined
): ReadonlyArray<number> => {
  let shown = columns.map((_, i) => i)
  if (width === undefined) return shown
  const needed = () => widthOf(shown.map((i) => columns[i]!.isLong === true ? Math.min(wanted[i]!, least) : wanted[i]!))
  while (needed() > width) {
    const last = shown.reduce<number | undefined>((found, i) => {
      const { dropped } = columns[i]!
      return dropped === undefined || found !== undefined && columns[found]!.dropped! > dropped ? found : i
    }, undefined)
    if (last === undefined) break
    shown = shown.filter((i) => i !== last)
  }
  return shown
}

const widthOf = (widths: ReadonlyArray<number>): number =>
  widths.reduce((sum, width) => sum + width, gap * (widths.length - 1))

/** The widths of the columns, of which the widest long one is cut until all fit. */
const fitted = (
  columns: ReadonlyArray<Column>,
  wanted: ReadonlyArray<number>,
  shown: ReadonlyArray<number>,
  width: number
): ReadonlyArray<number> => {
  const widths = [...wanted]
  let excess = widthOf(shown.map((i) => widths[i]!)) - width
  const long = shown.filter((i) => columns[i]!.isLong === true)
  while (excess > 0) {
    const [widest, next] = long.toSorted((a, b) => widths[b]! - widths[a]!)
    if (widest === undefined || widths[widest]! <= least) break
    const down = Math.max(next === undefined ? least : widths[next]!, least)
    const cut = Math.min(excess, Math.max(1, widths[widest]! - down))
    widths[widest]! -= cut
    excess -= cut
  }
  return widths
}
