/**
 * Arbitraries that choose among values and among other arbitraries.
 */
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"

/** An integer between two bounds, both included. Shrinks towards zero. */
export const integer = (minimum: number, maximum: number): Arbitrary.Arbitrary<number> =>
  Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum, maximum })))

/** One of the values. The first is the simplest. */
export const oneOf = <A>(values: ReadonlyArray<A>): Arbitrary.Arbitrary<A> =>
  Arbitrary.map(integer(0, values.length - 1), (i) => values[i]!)

/** Values of several arbitraries in proportion to their weights. The first is the simplest. */
export const weighted = <A>(
  ...choices: ReadonlyArray<readonly [weight: number, arbitrary: Arbitrary.Arbitrary<A>]>
): Arbitrary.Arbitrary<A> => {
  const table = choices.flatMap(([weight, arbitrary]) => Array.from({ length: weight }, () => arbitrary))
  return Arbitrary.flatMap(integer(0, table.length - 1), (i) => table[i]!)
}

/** A value one time in `times`, otherwise `undefined`. */
export const sometimes = <A>(times: number, arbitrary: Arbitrary.Arbitrary<A>): Arbitrary.Arbitrary<A | undefined> =>
  weighted<A | undefined>([times - 1, Arbitrary.Constant(undefined)], [1, arbitrary])
