/**
 * A recorded trace as a picture: a bar for each span, below that of its parent, over time.
 */
import * as Option from "effect/Option"
import type * as Tracer from "effect/Tracer"

const width = 960
const rowHeight = 22
const labelWidth = 210
const chartWidth = width - labelWidth - 130
const top = 34

interface Row {
  readonly span: Tracer.Span
  readonly depth: number
}

/** The spans that are children of the roots, each below its parent, in the order in which they started. */
const rowsOf = (spans: ReadonlyArray<Tracer.Span>): ReadonlyArray<Row> => {
  const known = new Set(spans.map(({ spanId }) => spanId))
  const parentOf = ({ parent }: Tracer.Span): string | undefined =>
    Option.getOrUndefined(Option.filter(parent, ({ spanId }) => known.has(spanId)))?.spanId
  const below = (parent: string | undefined, depth: number): ReadonlyArray<Row> =>
    spans.flatMap((span) => parentOf(span) === parent ? [{ span, depth }, ...below(span.spanId, depth + 1)] : [])
  return below(undefined, 0)
}

const colorOf = (name: string): string => {
  if (name.endsWith(".wait")) return "#d9822b"
  if (name.endsWith(".hold")) return "#2f9e44"
  if (name.startsWith("etcdserverpb")) return "#adb5bd"
  return /^[a-z]+[A-Z]?[A-Za-z]*$/.test(name) ? "#4c6ef5" : "#495057"
}

const escaped = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")

/** Attributes worth a place beside the bar. */
const detailOf = ({ attributes }: Tracer.Span): string => {
  const outcome = attributes.get("effect_kv.outcome")
  return outcome === undefined ? "" : ` ${String(outcome)}`
}

/** Draws the spans, all of which have ended. */
export const draw = (title: string, spans: ReadonlyArray<Tracer.Span>): string => {
  const timed = spans.flatMap((span) => span.status._tag === "Ended" ? [{ span, status: span.status }] : [])
  const begin = timed.reduce((least, { status }) => status.startTime < least ? status.startTime : least, 2n ** 63n)
  const end = timed.reduce((most, { status }) => status.endTime > most ? status.endTime : most, 0n)
  const total = Number(end - begin) / 1e6
  const x = (nanos: bigint): number => labelWidth + Number(nanos - begin) / 1e6 / total * chartWidth
  const rows = rowsOf(timed.map(({ span }) => span))
  const lines = rows.flatMap(({ depth, span }, i) => {
    if (span.status._tag !== "Ended") return []
    const { endTime, startTime } = span.status
    const y = top + i * rowHeight
    const from = x(startTime)
    const length = Math.max(x(endTime) - from, 1.5)
    const millis = (Number(endTime - startTime) / 1e6).toFixed(1)
    return [
      `<text x="${8 + depth * 14}" y="${y + 15}">${escaped(span.name)}</text>`,
      `<rect x="${from.toFixed(1)}" y="${y + 4}" width="${length.toFixed(1)}" height="14" rx="2" fill="${
        colorOf(span.name)
      }"/>`,
      `<text class="time" x="${(from + length + 5).toFixed(1)}" y="${y + 15}">${millis} ms${
        escaped(detailOf(span))
      }</text>`
    ]
  })
  const height = top + rows.length * rowHeight + 10
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-label="${
      escaped(title)
    }">`,
    `<style>text { font: 12px system-ui, sans-serif; fill: #212529 } .time { fill: #868e96 } .title { font-weight: 600 }</style>`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    `<text class="title" x="8" y="20">${escaped(title)}</text>`,
    ...lines,
    `</svg>`,
    ""
  ].join("\n")
}
