/**
 * Seeded random numbers: the generator `sfc32`.
 *
 * Not Effect's `Random`: synchronous code, such as a scheduler, needs a plain function, and no program under test may change
 * what it draws.
 */

/** Draws a number that is at least 0 and less than 1. */
export type Draw = () => number

/** The generator of a seed. With a name it is an independent stream of the seed. */
export const seeded = (seed: number, stream = ""): Draw => {
  let a = 0x9e3779b9
  let b = seed | 0
  let c = Math.floor(seed / 0x1_0000_0000) | 0
  let counter = 1
  const next = (): number => {
    const t = (a + b | 0) + counter | 0
    counter = counter + 1 | 0
    a = b ^ b >>> 9
    b = c + (c << 3) | 0
    c = (c << 21 | c >>> 11) + t | 0
    return (t >>> 0) / 0x1_0000_0000
  }
  for (const character of stream) {
    a = a ^ character.charCodeAt(0)
    next()
  }
  // Discards numbers until seeds that differ in one bit have nothing in common.
  for (let i = 0; i < 15; i++) next()
  return next
}

/** An integer that is at least 0 and less than `below`. */
export const below = (draw: Draw, below: number): number => Math.floor(draw() * below)

/** One of the values. */
export const pick = <A>(draw: Draw, values: readonly [A, ...ReadonlyArray<A>]): A => values[below(draw, values.length)]!
