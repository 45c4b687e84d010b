/**
 * Growth from round to round of a soak: of memory, and of what is counted while the clients are open.
 *
 * Growth is the median of the slopes between all pairs of rounds (Theil-Sen), so one outlier does not matter. The first
 * round is left out, because it loads and compiles the code.
 */

/** What is measured after each round. */
export interface Sample {
  /** Heap and buffers after a garbage collection, in bytes. */
  readonly memory: number
  readonly sockets: number
  readonly fibers: number
  readonly timers: number
}

/**
 * The growth per round and in total that counts as noise. A client has up to two connections to each member, each with
 * timers. How many of them are open depends on the last fault.
 */
const allowed: Readonly<Record<keyof Sample, { readonly inRound: number; readonly inAll: number }>> = {
  memory: { inRound: 512 * 1024, inAll: 4 * 1024 * 1024 },
  sockets: { inRound: 0.4, inAll: 8 },
  fibers: { inRound: 0.4, inAll: 4 },
  timers: { inRound: 0.4, inAll: 8 }
}

const parts = ["memory", "sockets", "fibers", "timers"] as const

/** The minimum number of rounds for a conclusion. */
export const fewest = 4

/** The growth per round. */
export const of = (samples: ReadonlyArray<Sample>, part: keyof Sample): number => {
  const values = samples.slice(1).map((sample) => sample[part])
  const slopes = values.flatMap((from, i) => values.slice(i + 1).map((to, j) => (to - from) / (j + 1)))
  return slopes.sort((a, b) => a - b)[Math.floor(slopes.length / 2)] ?? 0
}

/** What grows, as messages. */
export const excess = (samples: ReadonlyArray<Sample>): ReadonlyArray<string> => {
  if (samples.length < fewest) return [`inconclusive: ${samples.length} rounds are too few to measure growth`]
  return parts.flatMap((part) => {
    const growth = of(samples, part)
    const { inAll, inRound } = allowed[part]
    return growth > inRound && growth * (samples.length - 2) >= inAll
      ? [`${show(part, growth)} more in each round`]
      : []
  })
}

/** The growth per round of everything, in one line. */
export const format = (samples: ReadonlyArray<Sample>): string =>
  parts.map((part) => show(part, of(samples, part))).join(", ")

const show = (part: keyof Sample, growth: number): string =>
  part === "memory" ? `memory ${(growth / 1024 / 1024).toFixed(2)} MiB` : `${part} ${growth.toFixed(1)}`
