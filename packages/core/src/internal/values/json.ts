/**
 * The JSON form of the library's values: a bigint is a decimal string, because JSON has none. An absent field is
 * `null`.
 */
import * as Option from "effect/Option"

/** The fields of a record. `JSON.stringify` uses the `toJSON` of values that have one, such as entries. */
export const fieldsOf = (record: object): Record<string, unknown> =>
  Object.fromEntries(Object.entries(record).map(([name, value]) => [name, jsonOf(value)]))

const jsonOf = (value: unknown): unknown => {
  if (typeof value === "bigint") return value.toString()
  return Option.isOption(value) ? Option.match(value, { onNone: () => null, onSome: jsonOf }) : value
}
