/**
 * The scenario and the fault profile of a seed: what its processes do, and which faults strike them.
 */
import * as Duration from "effect/Duration"
import { below, seeded } from "../../internal/seeded.ts"
import type { RandomOptions } from "../../testing/KvFaults.ts"

/** See `Simulation.FaultProfile`. */
export type FaultProfile = "slow" | "lossy" | "brutal"

/** The fault profile of a seed. */
export const faultProfileOf = (seed: number): FaultProfile => (["slow", "lossy", "brutal"] as const)[seed % 3]!

const rates: Readonly<Record<FaultProfile, Omit<RandomOptions, "seed">>> = {
  slow: { delay: 0.5, cutWatches: 0.02 },
  lossy: {
    delay: 0.3,
    unavailable: 0.03,
    loseRequest: 0.02,
    loseResponse: 0.03,
    applyLate: 0.02,
    silence: 0.005,
    cutWatches: 0.03
  },
  brutal: {
    delay: 0.3,
    unavailable: 0.02,
    loseRequest: 0.01,
    loseResponse: 0.02,
    applyLate: 0.03,
    silence: 0.005,
    cutWatches: 0.03,
    endLease: 0.02
  }
}

/** The longest delay in milliseconds. In some runs it is long enough for a renewal to come too late. */
const delaysOf = (seed: number, profile: FaultProfile): number =>
  profile === "slow" ? 40 : ([100, 300, 900] as const)[below(seeded(seed, "delays"), 3)]!

/** The rates of faults of a run. */
export const ratesOf = (seed: number, profile: FaultProfile): Omit<RandomOptions, "seed"> => ({
  ...rates[profile],
  maxDelay: Duration.millis(delaysOf(seed, profile))
})

/** What the processes of a run do. */
export interface Scenario {
  readonly processes: number
  /** How many clients of each process read and write, how many operations each makes, and on how many keys. */
  readonly clients: number
  readonly operations: number
  readonly keys: number
  /** How often each of two fibers of a process acquires the lock, and for how many milliseconds at most it pauses then. */
  readonly increments: number
  readonly holds: number
  /** How often each of two fibers of a process uses permits of the semaphore, and the read-write lock. */
  readonly permits: number
  readonly rwLocks: number
  /** For how many seconds each process is an instance of a cron that is due every second. */
  readonly ticks: number
  /** How often each process uses the recipes that have no scenario of their own. */
  readonly recipes: number
  /** How many transfers between accounts each of two fibers of a process makes. */
  readonly transfers: number
  readonly temporary: boolean
  readonly impatient: boolean
}

const nothing = {
  clients: 0,
  operations: 0,
  keys: 0,
  increments: 0,
  holds: 0,
  permits: 0,
  rwLocks: 0,
  ticks: 0,
  recipes: 0,
  transfers: 0,
  temporary: false,
  impatient: false
}

const scenarios: ReadonlyArray<Scenario> = [
  // A few clients of a few processes on few keys.
  { ...nothing, processes: 3, clients: 2, operations: 5, keys: 3, impatient: true },
  { ...nothing, processes: 2, clients: 3, operations: 5, keys: 2 },
  // Many clients of one or two processes, so that many requests are in flight and can be batched.
  { ...nothing, processes: 1, clients: 10, operations: 3, keys: 6, impatient: true },
  { ...nothing, processes: 2, clients: 6, operations: 3, keys: 5 },
  { ...nothing, processes: 1, clients: 12, operations: 3, keys: 8 },
  { ...nothing, processes: 2, clients: 8, operations: 3, keys: 6, impatient: true },
  // Locks and temporary keys.
  { ...nothing, processes: 2, clients: 1, operations: 2, keys: 2, increments: 2 },
  { ...nothing, processes: 3, clients: 1, operations: 2, keys: 2, increments: 1, holds: 500 },
  { ...nothing, processes: 3, clients: 1, operations: 3, keys: 3, temporary: true },
  { ...nothing, processes: 2, clients: 1, operations: 3, keys: 3, increments: 1, temporary: true, impatient: true },
  // Writes at once after the acquisition, so that late writes meet the fence.
  { ...nothing, processes: 3, increments: 3, holds: 50 },
  // Locks that are held long enough to be lost.
  { ...nothing, processes: 3, increments: 2, holds: 4000 },
  { ...nothing, processes: 4, increments: 1, holds: 2000 },
  // Semaphores and read-write locks, held briefly and long enough to be lost.
  { ...nothing, processes: 3, permits: 3, holds: 100 },
  { ...nothing, processes: 3, permits: 2, holds: 4000 },
  { ...nothing, processes: 3, rwLocks: 3, holds: 100 },
  { ...nothing, processes: 3, rwLocks: 2, holds: 4000 },
  // Transactions of several keys that conflict.
  { ...nothing, processes: 3, transfers: 3 }
]

const cron: ReadonlyArray<Scenario> = [
  // Ticks that last longer than the next one takes to come due, now and then.
  { ...nothing, processes: 3, clients: 2, operations: 5, keys: 3, ticks: 6, holds: 1500 },
  { ...nothing, processes: 2, clients: 3, operations: 5, keys: 2, ticks: 4, holds: 50 }
]

const recipes: ReadonlyArray<Scenario> = [
  { ...nothing, processes: 2, recipes: 3, holds: 50 },
  { ...nothing, processes: 3, recipes: 2, holds: 200 },
  // Held long enough to be lost.
  { ...nothing, processes: 3, recipes: 1, holds: 4000 }
]

export const scenarioOf = (seed: number): Scenario => {
  if (below(seeded(seed, "recipes"), 8) === 0) return recipes[below(seeded(seed, "scenario"), recipes.length)]!
  const all = below(seeded(seed, "cron"), 8) === 0 ? cron : scenarios
  return all[below(seeded(seed, "scenario"), all.length)]!
}

/** Whether few enough calls are concurrent to search their orders. Reads of all keys connect all keys. */
export const isOrderable = (seed: number): boolean => {
  const { clients, recipes, temporary } = scenarioOf(seed)
  return clients <= 3 && !temporary && recipes === 0
}
