/**
 * Numbers that look random and are the same for the same seed: the generator `sfc32`.
 *
 * Not Effect's `Random`: whoever decides in the middle of a synchronous step, such as a scheduler, needs a plain function,
 * and no program under test may change what it draws.
 */

/** Draws numbers from 0 up to, and without, 1. */
export type Draw = () => number

/** The numbers of a seed; of a seed and a name, those of an independent stream. */
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
  // Until seeds that differ in a bit have nothing in common.
  for (let i = 0; i < 15; i++) next()
  return next
}

/** A whole number from 0 up to, and without, `below`. */
export const below = (draw: Draw, below: number): number => Math.floor(draw() * below)

/** One of the values. */
export const pick = <A>(draw: Draw, values: readonly [A, ...ReadonlyArray<A>]): A => values[below(draw, values.length)]!
