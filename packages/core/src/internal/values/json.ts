/**
 * The JSON form of the library's values: a bigint is a decimal string, since JSON has none, and an absent field is `null`.
 */
import * as Option from "effect/Option"

/** The fields of a record. What has a `toJSON` of its own, such as an entry, goes by that. */
export const fieldsOf = (record: object): Record<string, unknown> =>
  Object.fromEntries(Object.entries(record).map(([name, value]) => [name, jsonOf(value)]))

const jsonOf = (value: unknown): unknown => {
  if (typeof value === "bigint") return value.toString()
  return Option.isOption(value) ? Option.match(value, { onNone: () => null, onSome: jsonOf }) : value
}
