/**
 * A seeded random generator, so that a run can be repeated.
 *
 * Effect's `Random` is unsuitable, because the library under test uses it as well, and how often depends on the
 * network. Only the harness uses this generator, and each step of each worker has its own.
 */

/** A sequence of random values that depends on the seed alone. */
export interface SeededRandom {
  /** From 0 (included) to 1 (excluded). */
  readonly next: () => number
  /** An integer between the two, both included. */
  readonly int: (minimum: number, maximum: number) => number
  /** True with this probability. */
  readonly chance: (probability: number) => boolean
  readonly pick: <A>(values: ReadonlyArray<A>) => A
  /** The same values in random order. */
  readonly shuffle: <A>(values: ReadonlyArray<A>) => Array<A>
}

/** A generator for the given parts: the seed of the run, a worker, a step. */
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
