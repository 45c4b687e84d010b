/**
 * Generated programs, from few keys and values so that their commands often coincide.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Op from "@effect-kv/core/Op"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"

export const integer = (minimum: number, maximum: number): Arbitrary.Arbitrary<number> =>
  Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum, maximum })))

/** One of the values, the first being the simplest. */
export const oneOf = <A>(values: ReadonlyArray<A>): Arbitrary.Arbitrary<A> =>
  Arbitrary.map(integer(0, values.length - 1), (i) => values[i]!)

/** A value of one of the arbitraries, the first being the simplest. */
export const either = <A>(...arbitraries: ReadonlyArray<Arbitrary.Arbitrary<A>>): Arbitrary.Arbitrary<A> =>
  Arbitrary.flatMap(integer(0, arbitraries.length - 1), (i) => arbitraries[i]!)

const optional = <A>(arbitrary: Arbitrary.Arbitrary<A>): Arbitrary.Arbitrary<A | undefined> =>
  either<A | undefined>(Arbitrary.Constant(undefined), arbitrary)

/** Keys around which UTF-16 and UTF-8 order, prefixes and successors differ. */
const keys = [
  "a",
  "b",
  "a\u0000",
  "aa",
  "ab",
  "a\ud7ff",
  "a\ue000",
  "a\uffff",
  "a\u{10000}",
  "a\u{10ffff}",
  "\u{10ffff}"
]

export const key: Arbitrary.Arbitrary<string> = oneOf(keys)

const bound = oneOf([...keys, "", "a\ud7ff\u0000", "\u{10ffff}\u{10ffff}"])

export const range: Arbitrary.Arbitrary<KeyRange.KeyRange> = either<KeyRange.KeyRange>(
  Arbitrary.map(key, KeyRange.key),
  Arbitrary.map(bound, KeyRange.prefix),
  Arbitrary.Constant(KeyRange.all),
  Arbitrary.map(bound, KeyRange.from),
  Arbitrary.map(Arbitrary.all([bound, bound]), ([start, end]) => KeyRange.halfOpen(start, end)),
  Arbitrary.map(Arbitrary.all([key, key]), ([start, end]) => KeyRange.closed(start, end)),
  Arbitrary.map(
    Arbitrary.all([oneOf(["", "a"]), key]),
    ([prefix, from]): KeyRange.KeyRange => ({ _tag: "Prefix", prefix, from })
  )
)

const revision = Arbitrary.map(integer(1, 40), BigInt)

const get = Arbitrary.map(
  Arbitrary.all({
    range,
    limit: optional(integer(1, 4)),
    by: optional(oneOf(["key", "createRevision", "modRevision", "version"] as const)),
    direction: optional(oneOf(["ascending", "descending"] as const)),
    keysOnly: oneOf([false, true]),
    countOnly: oneOf([false, false, true]),
    revision: optional(revision),
    minModRevision: optional(revision),
    maxModRevision: optional(revision),
    minCreateRevision: optional(revision),
    maxCreateRevision: optional(revision),
    isFiltered: oneOf([false, false, true])
  }),
  ({ by, direction, isFiltered, range, ...rest }): Op.Op => {
    const { maxCreateRevision, maxModRevision, minCreateRevision, minModRevision, ...options } = rest
    const filters = isFiltered ? { maxCreateRevision, maxModRevision, minCreateRevision, minModRevision } : {}
    return Op.range(range, { ...options, ...filters, order: by === undefined ? undefined : { by, direction } })
  }
)

const value = oneOf(["", "1", "2", "\uffff", "\u{10000}"])

const put = Arbitrary.map(
  Arbitrary.all([key, value, oneOf([false, true]), oneOf([false, true])]),
  ([key, value, isText, previous]): Op.Op => Op.put(key, isText ? value : new TextEncoder().encode(value), { previous })
)

const delete_ = Arbitrary.map(
  Arbitrary.all([range, oneOf([false, true])]),
  ([range, previous]): Op.Op => Op.deleteRange(range, { previous })
)

const operator = oneOf(["=", "!=", "<", ">"] as const)

const compare: Arbitrary.Arbitrary<Compare.Compare> = either<Compare.Compare>(
  Arbitrary.map(key, Compare.exists),
  Arbitrary.map(Arbitrary.all([key, operator, value]), ([key, operator, value]) => Compare.value(key, operator, value)),
  Arbitrary.map(
    Arbitrary.all([key, operator, integer(0, 3)]),
    ([key, operator, value]) => Compare.version(key, operator, value)
  ),
  Arbitrary.map(
    Arbitrary.all([key, operator, revision]),
    ([key, operator, revision]) => Compare.modRevision(key, operator, revision)
  ),
  Arbitrary.map(
    Arbitrary.all([key, operator, revision]),
    ([key, operator, revision]) => Compare.createRevision(key, operator, revision)
  ),
  Arbitrary.map(Arbitrary.all([range, revision]), ([range, revision]) => Compare.createdBefore(range, revision))
)

const single: Arbitrary.Arbitrary<Op.Op> = either(put, put, delete_, get)

const txnOf = (op: Arbitrary.Arbitrary<Op.Op>): Arbitrary.Arbitrary<Op.Op> =>
  Arbitrary.map(
    Arbitrary.all([
      Arbitrary.array(compare, { maxLength: 2 }),
      Arbitrary.array(op, { maxLength: 3 }),
      Arbitrary.array(op, { maxLength: 3 })
    ]),
    ([compares, then, otherwise]) => Op.txn({ if: compares, then, else: otherwise })
  )

export const op: Arbitrary.Arbitrary<Op.Op> = either(
  put,
  put,
  get,
  get,
  delete_,
  txnOf(single),
  txnOf(either(single, txnOf(single)))
)
