/**
 * Generated keys, ranges and operations, from small alphabets so that they often coincide.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Op from "@effect-kv/core/Op"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"

/** One of the values, the first being the simplest. */
export const oneOf = <A>(values: ReadonlyArray<A>): Arbitrary.Arbitrary<A> =>
  Arbitrary.map(integer(0, values.length - 1), (i) => values[i]!)

/** A value of one of the arbitraries, the first being the simplest. */
export const either = <A>(...arbitraries: ReadonlyArray<Arbitrary.Arbitrary<A>>): Arbitrary.Arbitrary<A> =>
  Arbitrary.flatMap(integer(0, arbitraries.length - 1), (i) => arbitraries[i]!)

export const integer = (minimum: number, maximum: number): Arbitrary.Arbitrary<number> =>
  Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum, maximum })))

const characters = [
  "a",
  "b",
  "\u0000",
  "\u007f",
  "\u0080",
  "\u07ff",
  "\u0800",
  "\ud7ff",
  "\ue000",
  "\uffff",
  "\u{10000}",
  "\u{10ffff}"
]

/** Well-formed text, from the code points where encodings change. */
export const text: Arbitrary.Arbitrary<string> = Arbitrary.map(
  Arbitrary.array(oneOf(characters), { maxLength: 4 }),
  (parts) => parts.join("")
)

/** Text that may have lone surrogates. */
export const brokenText: Arbitrary.Arbitrary<string> = Arbitrary.map(
  Arbitrary.array(oneOf(["a", "\ud800", "\udc00", "\uffff", ""]), { maxLength: 4 }),
  (parts) => parts.join("")
)

/** Any range, including invalid ones. */
export const range: Arbitrary.Arbitrary<KeyRange.KeyRange> = either(
  Arbitrary.map(text, KeyRange.key),
  Arbitrary.map(text, KeyRange.prefix),
  Arbitrary.map(text, KeyRange.from),
  Arbitrary.map(Arbitrary.all([text, text]), ([start, end]) => KeyRange.halfOpen(start, end)),
  Arbitrary.map(Arbitrary.all([text, text]), ([start, end]) => KeyRange.closed(start, end)),
  Arbitrary.map(
    Arbitrary.all([text, text]),
    ([prefix, from]): KeyRange.KeyRange => ({ _tag: "Prefix", prefix, from: prefix + from })
  ),
  Arbitrary.Constant(KeyRange.all)
)

const shortKey = oneOf(["a", "b", "c", "ab"])

const write: Arbitrary.Arbitrary<Op.Op> = either<Op.Op>(
  Arbitrary.map(shortKey, (key) => Op.put(key, "v")),
  Arbitrary.map(shortKey, (key) => Op.get(key)),
  Arbitrary.map(shortKey, (key) => Op.delete(key)),
  Arbitrary.map(shortKey, (key) => Op.deleteRange(KeyRange.prefix(key)))
)

const branch = (op: Arbitrary.Arbitrary<Op.Op>) => Arbitrary.array(op, { maxLength: 3 })

const txnOf = (op: Arbitrary.Arbitrary<Op.Op>): Arbitrary.Arbitrary<Op.Op> =>
  Arbitrary.map(
    Arbitrary.all([integer(0, 3), branch(op), branch(op)]),
    ([compares, then, otherwise]) =>
      Op.txn({ if: Array.from({ length: compares }, () => Compare.exists("a")), then, else: otherwise })
  )

const nested = (depth: number): Arbitrary.Arbitrary<Op.Op> =>
  depth === 0 ? write : either(write, write, txnOf(nested(depth - 1)))

/** Transactions, up to four deep, with well-formed keys that conflict often. */
export const txn: Arbitrary.Arbitrary<Op.Op> = txnOf(nested(3))
