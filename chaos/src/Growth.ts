/**
 * Whether something grows from round to round of a soak: memory, and what is counted while the clients are open.
 *
 * Growth is the median of the slopes between all pairs of rounds (Theil and Sen), so that one odd round does not matter. The
 * first round is left out, in which all is loaded and compiled.
 */

/** What is measured after each round. */
export interface Sample {
  /** Of the heap and of buffers, after garbage was collected, in bytes. */
  readonly memory: number
  readonly sockets: number
  readonly fibers: number
  readonly timers: number
}

/**
 * What may grow by how much in a round, and in all: less is noise. A client has up to two connections to each member, with
 * their timers, and how many of them are open depends on the last fault.
 */
const allowed: Readonly<Record<keyof Sample, { readonly inRound: number; readonly inAll: number }>> = {
  memory: { inRound: 512 * 1024, inAll: 4 * 1024 * 1024 },
  sockets: { inRound: 0.4, inAll: 8 },
  fibers: { inRound: 0.4, inAll: 4 },
  timers: { inRound: 0.4, inAll: 8 }
}

const parts = ["memory", "sockets", "fibers", "timers"] as const

/** Rounds of which something can be concluded. */
export const fewest = 4

/** The growth in a round. */
export const of = (samples: ReadonlyArray<Sample>, part: keyof Sample): number => {
  const values = samples.slice(1).map((sample) => sample[part])
  const slopes = values.flatMap((from, i) => values.slice(i + 1).map((to, j) => (to - from) / (j + 1)))
  return slopes.sort((a, b) => a - b)[Math.floor(slopes.length / 2)] ?? 0
}

/** What grows, in words. */
export const excess = (samples: ReadonlyArray<Sample>): ReadonlyArray<string> => {
  if (samples.length < fewest) return [`inconclusive: nothing is known of growth after ${samples.length} rounds`]
  return parts.flatMap((part) => {
    const growth = of(samples, part)
    const { inAll, inRound } = allowed[part]
    return growth > inRound && growth * (samples.length - 2) >= inAll
      ? [`${show(part, growth)} more in each round`]
      : []
  })
}

/** The growth of everything in a round. */
export const format = (samples: ReadonlyArray<Sample>): string =>
  parts.map((part) => show(part, of(samples, part))).join(", ")

const show = (part: keyof Sample, growth: number): string =>
  part === "memory" ? `memory ${(growth / 1024 / 1024).toFixed(2)} MiB` : `${part} ${growth.toFixed(1)}`
