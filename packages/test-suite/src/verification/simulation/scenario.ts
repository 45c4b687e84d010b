/**
 * Which run a seed stands for: what its processes do, and how much goes wrong.
 */
import * as Duration from "effect/Duration"
import { below, seeded } from "../../internal/seeded.ts"
import type { RandomOptions } from "../../testing/KvFaults.ts"

/** See `Simulation`. */
export type Weather = "slow" | "lossy" | "brutal"

/** The weather of a seed. */
export const weatherOf = (seed: number): Weather => (["slow", "lossy", "brutal"] as const)[seed % 3]!

const rates: Readonly<Record<Weather, Omit<RandomOptions, "seed">>> = {
  slow: { delay: 0.5, cutWatches: 0.02 },
  lossy: {
    delay: 0.3,
    unavailable: 0.03,
    loseRequest: 0.02,
    loseAnswer: 0.03,
    applyLate: 0.02,
    silence: 0.005,
    cutWatches: 0.03
  },
  brutal: {
    delay: 0.3,
    unavailable: 0.02,
    loseRequest: 0.01,
    loseAnswer: 0.02,
    applyLate: 0.03,
    silence: 0.005,
    cutWatches: 0.03,
    endLease: 0.02
  }
}

/** The most a delay takes, in milliseconds: in some runs long enough for a renewal to come too late. */
const delaysOf = (seed: number, weather: Weather): number =>
  weather === "slow" ? 40 : ([100, 300, 900] as const)[below(seeded(seed, "delays"), 3)]!

/** The faults of a run, but for their seed. */
export const ratesOf = (seed: number, weather: Weather): Omit<RandomOptions, "seed"> => ({
  ...rates[weather],
  maxDelay: Duration.millis(delaysOf(seed, weather))
})

/** What the processes of a run do. */
export interface Plot {
  readonly processes: number
  /** Clients of each that read and write data, how many things each of them does, and on how many keys. */
  readonly clients: number
  readonly operations: number
  readonly keys: number
  /** How often each of two fibers of a process takes the lock, and for how many milliseconds at most it does nothing then. */
  readonly increments: number
  readonly holds: number
  readonly temporary: boolean
  readonly impatient: boolean
}

const nothing = { clients: 0, operations: 0, keys: 0, increments: 0, holds: 0, temporary: false, impatient: false }

const scenarios: ReadonlyArray<Plot> = [
  // Some clients of some processes on few keys.
  { ...nothing, processes: 3, clients: 2, operations: 5, keys: 3, impatient: true },
  { ...nothing, processes: 2, clients: 3, operations: 5, keys: 2 },
  // Many of one or two, so that much is under way at once and can be batched.
  { ...nothing, processes: 1, clients: 10, operations: 3, keys: 6, impatient: true },
  { ...nothing, processes: 2, clients: 6, operations: 3, keys: 5 },
  { ...nothing, processes: 1, clients: 12, operations: 3, keys: 8 },
  { ...nothing, processes: 2, clients: 8, operations: 3, keys: 6, impatient: true },
  // Locks and temporary keys.
  { ...nothing, processes: 2, clients: 1, operations: 2, keys: 2, increments: 2 },
  { ...nothing, processes: 3, clients: 1, operations: 2, keys: 2, increments: 1, holds: 500 },
  { ...nothing, processes: 3, clients: 1, operations: 3, keys: 3, temporary: true },
  { ...nothing, processes: 2, clients: 1, operations: 3, keys: 3, increments: 1, temporary: true, impatient: true },
  // A lock that is written under at once, so that what is late meets the fence.
  { ...nothing, processes: 3, increments: 3, holds: 50 },
  // Locks that are held for so long that they are lost.
  { ...nothing, processes: 3, increments: 2, holds: 4000 },
  { ...nothing, processes: 4, increments: 1, holds: 2000 }
]

export const plotOf = (seed: number): Plot => scenarios[below(seeded(seed, "story"), scenarios.length)]!

/** Whether so little is done at once that all orders of it can be tried. What looks at everything connects all keys. */
export const isOrderable = (seed: number): boolean => {
  const { clients, temporary } = plotOf(seed)
  return clients <= 3 && !temporary
}
