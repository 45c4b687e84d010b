/**
 * A chart of the single calls: operations per second by calls in flight, one panel per scenario, one line per subject,
 * both scales logarithmic.
 */
import type { Row } from "./Row.ts"

interface Line {
  readonly subject: string
  readonly color: string
  readonly width: number
  readonly dash?: string
  readonly note: string
}

/** The subjects, the topmost last. */
const lines: ReadonlyArray<Line> = [
  { subject: "etcd3", color: "#d9480f", width: 2, note: "the package's public API" },
  { subject: "etcd3 raw", color: "#f2a65a", width: 2, note: "its generated gRPC client" },
  { subject: "Go", color: "#2f9e44", width: 2, note: "Go's client, in its own process" },
  { subject: "grpc-js", color: "#868e96", width: 2, note: "@grpc/grpc-js alone" },
  { subject: "effect-kv unbatched", color: "#74a9e8", width: 2, dash: "5 4", note: "this library, batching: false" },
  { subject: "effect-kv", color: "#1c5fc4", width: 3, note: "this library, as it comes" }
]

const panels = [
  { scenario: "get", title: "get" },
  { scenario: "put", title: "put" },
  { scenario: "cas", title: "compare-and-set" },
  { scenario: "mix", title: "9 gets to 1 put" },
  { scenario: "range", title: "range of 100 keys" }
]

const page = { width: 1020, padding: 28, head: 66 }
const columns = 3
const cell = { width: (page.width - 2 * page.padding) / columns, height: 296 }
/** The margins of a panel's plot within its cell. */
const plot = { left: 46, top: 30, right: 26, bottom: 48 }
const plotWidth = cell.width - plot.left - plot.right
const plotHeight = cell.height - plot.top - plot.bottom

const ink = { text: "#1f2933", faint: "#6b7580", grid: "#e6e9ed", axis: "#b8c0c8" }
const font = `font-family="system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"`

/** `undefined` if no single calls were measured. */
export const draw = (rows: ReadonlyArray<Row>): string | undefined => {
  const drawn = panels.filter(({ scenario }) => rows.some((row) => row.scenario === scenario))
  if (drawn.length === 0) return undefined
  const shown = rows.filter((row) => drawn.some(({ scenario }) => scenario === row.scenario))
  const scale = scaleOf(shown)
  const height = page.head + Math.ceil((drawn.length + 1) / columns) * cell.height + 8
  const cells = [
    ...drawn.map(({ scenario, title }) => panel(title, shown.filter((row) => row.scenario === scenario), scale)),
    legend()
  ]
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${page.width} ${height}" ` +
    `width="${page.width}" height="${height}" ${font}>`,
    `<title>Operations per second by calls in flight, for each client and kind of call</title>`,
    `<rect width="${page.width}" height="${height}" rx="10" fill="#ffffff"/>`,
    text(page.padding, 34, "Operations per second by calls in flight", { size: 19, weight: 650 }),
    text(
      page.padding,
      54,
      "One Node process, one etcd server, clients take turns. Median of the rounds; bars from the slowest to the " +
        "fastest. Logarithmic.",
      { size: 12, fill: ink.faint }
    ),
    ...cells.map((content, i) =>
      `<g transform="translate(${page.padding + (i % columns) * cell.width} ` +
      `${page.head + Math.floor(i / columns) * cell.height})">\n${content}\n</g>`
    ),
    `</svg>`,
    ""
  ].join("\n")
}

interface Scale {
  readonly inFlights: ReadonlyArray<number>
  /** The powers of ten around all rates. */
  readonly from: number
  readonly to: number
}

const scaleOf = (rows: ReadonlyArray<Row>): Scale => ({
  inFlights: [...new Set(rows.map((row) => row.inFlight))].sort((a, b) => a - b),
  from: Math.floor(Math.log10(Math.min(...rows.map((row) => row.opsPerSecondMin)))),
  to: Math.ceil(Math.log10(Math.max(...rows.map((row) => row.opsPerSecondMax))))
})

const panel = (title: string, rows: ReadonlyArray<Row>, scale: Scale): string => {
  const last = scale.inFlights.length - 1
  const x = (inFlight: number): number =>
    plot.left + plotWidth * (0.05 + 0.9 * (last === 0 ? 0.5 : scale.inFlights.indexOf(inFlight) / last))
  const y = (rate: number): number =>
    plot.top + plotHeight * (1 - (Math.log10(rate) - scale.from) / (scale.to - scale.from))
  return [
    text(plot.left, 18, title, { size: 14, weight: 650 }),
    ...decades(scale).flatMap((rate) => grid(rate, y)),
    ...scale.inFlights.map((inFlight) =>
      text(x(inFlight), plot.top + plotHeight + 18, `${inFlight}`, { size: 11, fill: ink.faint, anchor: "middle" })
    ),
    text(plot.left + plotWidth / 2, plot.top + plotHeight + 35, "in flight", {
      size: 11,
      fill: ink.faint,
      anchor: "middle"
    }),
    ...lines.map((line) => curve(line, rows.filter((row) => row.subject === line.subject), x, y)),
    ...labels(rows, x, y)
  ].join("\n")
}

const decades = ({ from, to }: Scale): ReadonlyArray<number> =>
  Array.from({ length: to - from + 1 }, (_, i) => 10 ** (from + i))

const grid = (rate: number, y: (rate: number) => number): ReadonlyArray<string> => [
  `<line x1="${plot.left}" x2="${plot.left + plotWidth}" y1="${n(y(rate))}" y2="${n(y(rate))}" stroke="${ink.grid}"/>`,
  text(plot.left - 7, y(rate) + 4, short(rate), { size: 11, fill: ink.faint, anchor: "end" })
]

const curve = (
  line: Line,
  unordered: ReadonlyArray<Row>,
  x: (inFlight: number) => number,
  y: (rate: number) => number
): string => {
  const rows = unordered.toSorted((a, b) => a.inFlight - b.inFlight)
  const points = rows.map((row) => `${n(x(row.inFlight))},${n(y(row.opsPerSecond))}`).join(" ")
  return [
    `<g stroke="${line.color}" fill="none" stroke-linecap="round" stroke-linejoin="round">`,
    `<polyline points="${points}" stroke-width="${line.width}"${dash(line)}/>`,
    ...rows.map((row) =>
      `<line x1="${n(x(row.inFlight))}" x2="${n(x(row.inFlight))}" y1="${n(y(row.opsPerSecondMin))}" ` +
      `y2="${n(y(row.opsPerSecondMax))}" stroke-width="1.5"/>`
    ),
    ...rows.map((row) =>
      `<circle cx="${n(x(row.inFlight))}" cy="${n(y(row.opsPerSecond))}" r="${line.width + 0.5}" ` +
      `fill="${line.color}" stroke="#ffffff"/>`
    ),
    `</g>`
  ].join("\n")
}

const dash = ({ dash }: Line): string => dash === undefined ? "" : ` stroke-dasharray="${dash}"`

/** Above each point of this library's line: its ratio to etcd3. */
const labels = (
  rows: ReadonlyArray<Row>,
  x: (inFlight: number) => number,
  y: (rate: number) => number
): ReadonlyArray<string> =>
  rows.filter((row) => row.subject === "effect-kv").map((row) =>
    text(x(row.inFlight), y(row.opsPerSecondMax) - 9, `${row.ratio.toFixed(row.ratio < 9.95 ? 1 : 0)}x`, {
      size: 11,
      weight: 650,
      fill: "#1c5fc4",
      anchor: "middle"
    })
  )

const legend = (): string =>
  [
    ...lines.toReversed().map((line, i) => {
      const y = 52 + i * 38
      return [
        `<line x1="${plot.left}" x2="${plot.left + 34}" y1="${y}" y2="${y}" stroke="${line.color}" ` +
        `stroke-width="${line.width}" stroke-linecap="round"${dash(line)}/>`,
        `<circle cx="${plot.left + 17}" cy="${y}" r="${line.width + 0.5}" fill="${line.color}" stroke="#ffffff"/>`,
        text(plot.left + 46, y, line.subject, { size: 13, weight: 600 }),
        text(plot.left + 46, y + 15, line.note, { size: 11, fill: ink.faint })
      ].join("\n")
    }),
    text(plot.left, 52 + lines.length * 38, "4.2x: ratio to etcd3 with as many calls in flight", {
      size: 11,
      fill: "#1c5fc4"
    })
  ].join("\n")

interface TextOptions {
  readonly size: number
  readonly weight?: number
  readonly fill?: string
  readonly anchor?: "middle" | "end"
}

const text = (x: number, y: number, content: string, { anchor, fill = ink.text, size, weight }: TextOptions): string =>
  `<text x="${n(x)}" y="${n(y)}" font-size="${size}" fill="${fill}"` +
  `${weight === undefined ? "" : ` font-weight="${weight}"`}` +
  `${anchor === undefined ? "" : ` text-anchor="${anchor}"`}>${content}</text>`

const short = (rate: number): string =>
  rate >= 1_000_000 ? `${rate / 1_000_000}M` : rate >= 1000 ? `${rate / 1000}k` : `${rate}`

const n = (value: number): string => `${Math.round(value * 10) / 10}`
