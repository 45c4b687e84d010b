/**
 * The schedule of a run: which faults happen and when, decided by the seed before the run starts.
 *
 * All kinds are used once before any is used again. Between two faults there is about the time that the cluster takes
 * to recover, so most of a run is not one long outage. One fault in three is combined with a second one.
 */
import type { Entry, Fault, Kind } from "./Fault.ts"
import { linkKinds } from "./Fault.ts"
import * as SeededRandom from "./SeededRandom.ts"

/** The options of a schedule. */
export interface Options {
  readonly seed: number
  /** The duration of the load in milliseconds. */
  readonly millis: number
  readonly kinds: ReadonlyArray<Kind>
  readonly clients: number
  /** The interval between single faults, in milliseconds. Default: random intervals, some faults combined. */
  readonly every?: number | undefined
}

/** Load without faults at the start, long enough for several renewals of sessions, and at the end, in milliseconds. */
export const warmUp = 4000
export const coolDown = 3000

/** The schedule of a run. */
export const make = (options: Options): ReadonlyArray<Entry> => {
  const random = SeededRandom.make(options.seed, "schedule")
  const entries: Array<Entry> = []
  let deck: Array<Kind> = []
  let at = warmUp
  if (options.kinds.length === 0) return entries
  while (true) {
    if (deck.length === 0) deck = random.shuffle(options.kinds)
    const everybody = Array.from({ length: options.clients }, (_, i) => i)
    const first = fault(random, deck.pop()!, everybody)
    const second = options.every === undefined && random.chance(0.33)
      ? companion(random, first, everybody, options)
      : []
    const faults = [first, ...second]
    const ends = at + Math.max(...faults.map(duration))
    if (ends > options.millis - coolDown) return entries
    entries.push({ at, faults })
    at = options.every === undefined ? ends + random.int(600, 1600) : Math.max(at + options.every, ends + 1000)
  }
}

/** The time between two outages, to recover and to observe that everything did, in milliseconds. */
const betweenOutages = 10_000

/** Outages of all members of so many milliseconds each, and no other faults. */
export const outages = (durations: ReadonlyArray<number>): ReadonlyArray<Entry> => {
  let at = warmUp
  return durations.map((millis) => {
    const begins = at
    at += millis + betweenOutages
    return {
      at: begins,
      faults: [{ kind: "outage", millis, slot: 0, clients: [], everyMember: true, amount: 0 }]
    }
  })
}

/** The duration of a schedule in milliseconds. */
export const lengthOf = (schedule: ReadonlyArray<Entry>): number =>
  Math.max(0, ...schedule.map(({ at, faults }) => at + Math.max(...faults.map(duration)))) + betweenOutages

/**
 * A second fault on links that the first one does not use, because the end of a fault heals its links completely. A
 * compaction cuts links, too. An eviction cuts links that are not known in advance.
 */
const companion = (
  random: SeededRandom.SeededRandom,
  other: Fault,
  everybody: ReadonlyArray<number>,
  { kinds }: Options
): ReadonlyArray<Fault> => {
  const isOfLinks = (kind: Kind): boolean => (linkKinds as ReadonlyArray<Kind>).includes(kind)
  if (other.kind === "evict") return []
  const free = isOfLinks(other.kind) || other.kind === "compact"
    ? everybody.filter((client) => !other.clients.includes(client))
    : everybody
  const possible = kinds.filter((kind) => isOfLinks(kind) && kind !== other.kind)
  return free.length === 0 || possible.length === 0 ? [] : [fault(random, random.pick(possible), free)]
}

const fault = (random: SeededRandom.SeededRandom, kind: Kind, all: ReadonlyArray<number>): Fault => {
  const some = random.shuffle(all).slice(0, random.int(1, all.length)).sort((a, b) => a - b)
  const [shortest, longest] = lasts[kind]
  const millis = random.int(shortest, longest)
  const slot = kind === "replace-member" ? random.int(1, 2) : random.int(0, 2)
  const everyMember = random.chance(0.6) || kind === "partition" || kind.startsWith("cut-") || kind === "half-open"
  const amount = kind === "throttle" ? random.int(5, 40) * 1000 : random.int(20, 400)
  return { kind, millis, slot, clients: kind === "partition" ? [random.pick(all)] : some, everyMember, amount }
}

/** The shortest and longest duration of each kind, in milliseconds. */
const lasts: Record<Kind, readonly [number, number]> = {
  "kill-member": [200, 2000],
  "kill-leader": [200, 2500],
  "kill-majority": [500, 3000],
  "outage": [200, 3000],
  "stop-member": [200, 1500],
  "pause-member": [500, 4000],
  "pause-leader": [500, 4000],
  "move-leader": [0, 0],
  "compact": [0, 0],
  "defragment": [0, 0],
  "replace-member": [0, 0],
  "cut": [200, 2000],
  "cut-before-forwarding": [200, 1500],
  "cut-after-forwarding": [200, 1500],
  "cut-mid-frame": [200, 1500],
  "delay": [500, 3000],
  "throttle": [500, 3000],
  "blackhole": [300, 4000],
  "lose-bytes": [300, 2500],
  "lose-responses": [300, 2500],
  "half-open": [300, 2500],
  "partition": [2500, 5000],
  "stall": [500, 4000],
  "evict": [0, 0],
  "kill-postmaster": [200, 2500],
  "kill-backend": [0, 0],
  "stop-fast": [200, 1500],
  "stop-immediate": [200, 1500],
  "pause-server": [500, 4000],
  "pause-backends": [500, 4000],
  "terminate-backends": [200, 2000],
  "cancel-statements": [200, 2000],
  "lock-store": [500, 4000],
  "vacuum": [0, 0]
}

/** About how much longer a kind takes until the cluster has recovered, for planning, in milliseconds. */
const recovery: Partial<Record<Kind, number>> = {
  "kill-member": 700,
  "kill-leader": 1700,
  "kill-majority": 2000,
  "outage": 2500,
  "stop-member": 1000,
  "pause-leader": 500,
  "move-leader": 700,
  "compact": 500,
  "defragment": 600,
  "replace-member": 12_000,
  "evict": 2500,
  "stall": 500,
  "kill-postmaster": 1500,
  "kill-backend": 1500,
  "stop-fast": 1200,
  "stop-immediate": 1500,
  "pause-server": 500,
  "pause-backends": 500,
  "vacuum": 600
}

const duration = ({ kind, millis }: Fault): number => millis + (recovery[kind] ?? 300)
