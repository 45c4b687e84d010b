/**
 * Choices that are made by a seed alone, so that a run can be repeated.
 *
 * Effect's `Random` will not do: the library under test draws from it as well, how often depends on the network. These are
 * thrown by the harness only, and each step of each worker has random of its own.
 */

/** SeededRandom. Each throw is the next of a sequence that depends on the seed alone. */
export interface SeededRandom {
  /** From 0 up to 1, which it never is. */
  readonly next: () => number
  /** An integer between two, both included. */
  readonly int: (minimum: number, maximum: number) => number
  /** True that often out of 1. */
  readonly chance: (probability: number) => boolean
  readonly pick: <A>(values: ReadonlyArray<A>) => A
  /** The same values in another order. */
  readonly shuffle: <A>(values: ReadonlyArray<A>) => Array<A>
}

/** SeededRandom for what is named by the parts: a run's seed, a worker, a step. */
export const make = (...parts: ReadonlyArray<string | number>): SeededRandom => {
  let state = hash(parts.join("\0"))
  // mulberry32
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
  const int = (minimum: number, maximum: number): number => minimum + Math.floor(next() * (maximum - minimum + 1))
  return {
    next,
    int,
    chance: (probability) => next() < probability,
    pick: (values) => values[int(0, values.length - 1)]!,
    shuffle: (values) => {
      const shuffled = [...values]
      for (let i = shuffled.length - 1; i > 0; i--) {
        const j = int(0, i)
        const swapped = shuffled[i]!
        shuffled[i] = shuffled[j]!
        shuffled[j] = swapped
      }
      return shuffled
    }
  }
}

/** FNV-1a. */
const hash = (text: string): number => {
  let value = 0x811c9dc5
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193)
  return value
}
