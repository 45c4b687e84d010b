/**
 * Spans of time by the monotonic clock, in nanoseconds, and what they cover of each other.
 */

/** A time from one moment to another. */
export interface Span {
  readonly from: bigint
  readonly to: bigint
}

/** The same time as spans in order that neither overlap nor touch. */
export const merge = (spans: ReadonlyArray<Span>): ReadonlyArray<Span> => {
  const merged: Array<{ readonly from: bigint; to: bigint }> = []
  for (const { from, to } of spans.toSorted((a, b) => a.from < b.from ? -1 : a.from > b.from ? 1 : 0)) {
    const last = merged[merged.length - 1]
    if (last === undefined || last.to < from) merged.push({ from, to })
    else if (last.to < to) last.to = to
  }
  return merged
}

/** How long a span is, in milliseconds. */
export const millis = ({ from, to }: Span): number => Number(to - from) / 1e6

/** How much of a window merged spans cover, in milliseconds. */
export const covered = (merged: ReadonlyArray<Span>, window: Span): number => {
  let nanos = 0n
  for (const { from, to } of merged) {
    const begins = from > window.from ? from : window.from
    const ends = to < window.to ? to : window.to
    if (ends > begins) nanos += ends - begins
  }
  return Number(nanos) / 1e6
}
