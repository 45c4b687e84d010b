/**
 * A transaction in JSON, decoded by hand so that a message names the place and what would be right there, and repeats no
 * value.
 *
 *     {
 *       "if":   [{ "missing": "owner" }, { "key": "limit", "value": "10" }],
 *       "then": [{ "put": "owner", "value": "me" }, { "delete": { "prefix": "jobs/" } }],
 *       "else": [{ "get": "owner" }]
 *     }
 */
import * as Compare from "@effect-kv/core/Compare"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Op from "@effect-kv/core/Op"
import * as Base64 from "effect/encoding/Base64"
import * as Result from "effect/Result"

/** The transaction, or what is wrong with the text. */
export const parse = (text: string): Result.Result<Op.Txn, string> => {
  try {
    return Result.succeed(txn("", json(text)))
  } catch (error) {
    if (error instanceof Problem) return Result.fail(error.text)
    throw error
  }
}

class Problem {
  readonly text: string
  constructor(path: string, text: string) {
    this.text = path === "" ? text : `${path}: ${text}`
  }
}

/** The parser's own message would repeat the text. */
const json = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    throw new Problem("", "the transaction is not JSON")
  }
}

type Fields = Readonly<Record<string, unknown>>

const fieldsOf = (path: string, value: unknown, what: string): Fields => {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Fields
  throw new Problem(path, `${what} is an object`)
}

/** Rejects misspelt fields: an ignored condition would be dangerous. */
const onlyFields = (path: string, fields: Fields, known: ReadonlyArray<string>): void => {
  const unknown = Object.keys(fields).find((name) => !known.includes(name))
  if (unknown !== undefined) {
    throw new Problem(path, `${JSON.stringify(unknown)} is unknown here; use ${known.join(", ")}`)
  }
}

const listOf = <A>(path: string, value: unknown, item: (path: string, value: unknown) => A): ReadonlyArray<A> => {
  if (value === undefined) return []
  if (!Array.isArray(value)) throw new Problem(path, "must be a list")
  return value.map((each, i) => item(`${path}[${i}]`, each))
}

const txn = (path: string, value: unknown): Op.Txn => {
  const fields = fieldsOf(path, value, "a transaction")
  onlyFields(path, fields, ["if", "then", "else"])
  const at = (name: string) => path === "" ? name : `${path}.${name}`
  return Op.txn({
    if: listOf(at("if"), fields["if"], condition),
    then: listOf(at("then"), fields["then"], operation),
    else: listOf(at("else"), fields["else"], operation)
  })
}

// -----------------------------------------------------------------------------
// conditions
// -----------------------------------------------------------------------------

const conditions =
  `use {"missing": KEY}, {"exists": KEY}, {"empty": {"prefix": PREFIX}}, or {"key": KEY, "is": OPERATOR} ` +
  `with one of value, base64, version, createRevision, modRevision, lease`

const condition = (path: string, value: unknown): Compare.Compare => {
  const fields = fieldsOf(path, value, "a condition")
  if ("missing" in fields) return Compare.missing(single(path, fields, "missing"))
  if ("exists" in fields) return Compare.exists(single(path, fields, "exists"))
  if ("empty" in fields) {
    onlyFields(path, fields, ["empty"])
    return Compare.empty(rangeOf(`${path}.empty`, fields["empty"]))
  }
  if (!("key" in fields)) throw new Problem(path, conditions)
  const targets = Object.keys(compares).filter((name) => name in fields)
  const [target] = targets
  if (target === undefined || targets.length > 1) throw new Problem(path, conditions)
  onlyFields(path, fields, ["key", "is", target])
  return compares[target]!(
    keyOf(`${path}.key`, fields["key"]),
    operatorOf(`${path}.is`, fields["is"]),
    `${path}.${target}`,
    fields[target]
  )
}

const compares: Readonly<
  Record<string, (key: string, operator: Compare.Operator, path: string, value: unknown) => Compare.Compare>
> = {
  value: (key, operator, path, value) => Compare.value(key, operator, textOf(path, value)),
  base64: (key, operator, path, value) => Compare.value(key, operator, bytesOf(path, value)),
  version: (key, operator, path, value) => Compare.version(key, operator, Number(integerOf(path, value))),
  createRevision: (key, operator, path, value) => Compare.createRevision(key, operator, integerOf(path, value)),
  modRevision: (key, operator, path, value) => Compare.modRevision(key, operator, integerOf(path, value)),
  lease: (key, operator, path, value) => Compare.lease(key, operator, leaseOf(path, value))
}

const operatorOf = (path: string, value: unknown): Compare.Operator => {
  if (value === undefined) return "="
  if (value === "=" || value === "!=" || value === "<" || value === ">") return value
  throw new Problem(path, `must be "=", "!=", "<" or ">"`)
}

const single = (path: string, fields: Fields, name: string): string => {
  onlyFields(path, fields, [name])
  return keyOf(`${path}.${name}`, fields[name])
}

// -----------------------------------------------------------------------------
// operations
// -----------------------------------------------------------------------------

const operations =
  `use {"put": KEY, "value": TEXT}, {"get": KEY}, {"delete": KEY} or {"txn": TRANSACTION}; get and delete ` +
  `also take {"prefix": PREFIX}`

const operation = (path: string, value: unknown): Op.Op => {
  const fields = fieldsOf(path, value, "an operation")
  if ("put" in fields) {
    onlyFields(path, fields, ["put", "value", "base64", "lease"])
    if (("value" in fields) === ("base64" in fields)) throw new Problem(path, "a put needs one of value and base64")
    return Op.put(
      keyOf(`${path}.put`, fields["put"]),
      "value" in fields ? textOf(`${path}.value`, fields["value"]) : bytesOf(`${path}.base64`, fields["base64"]),
      fields["lease"] === undefined ? {} : { lease: leaseOf(`${path}.lease`, fields["lease"]) }
    )
  }
  if ("get" in fields) {
    onlyFields(path, fields, ["get", "limit"])
    const limit = fields["limit"]
    return Op.range(
      keysOf(`${path}.get`, fields["get"]),
      limit === undefined ? {} : { limit: Number(integerOf(`${path}.limit`, limit)) }
    )
  }
  if ("delete" in fields) {
    onlyFields(path, fields, ["delete"])
    return Op.deleteRange(keysOf(`${path}.delete`, fields["delete"]))
  }
  if ("txn" in fields) {
    onlyFields(path, fields, ["txn"])
    return txn(`${path}.txn`, fields["txn"])
  }
  throw new Problem(path, operations)
}

// -----------------------------------------------------------------------------
// their parts
// -----------------------------------------------------------------------------

const keyOf = (path: string, value: unknown): string => {
  if (typeof value === "string" && value !== "") return value
  throw new Problem(path, "must be a key: a text that is not empty")
}

/** A key, or all keys under a prefix. */
const keysOf = (path: string, value: unknown): KeyRange.KeyRange =>
  typeof value === "string" ? KeyRange.key(keyOf(path, value)) : rangeOf(path, value)

const rangeOf = (path: string, value: unknown): KeyRange.KeyRange => {
  const fields = fieldsOf(path, value, `a range of keys`)
  onlyFields(path, fields, ["prefix"])
  return KeyRange.prefix(textOf(`${path}.prefix`, fields["prefix"]))
}

const textOf = (path: string, value: unknown): string => {
  if (typeof value === "string") return value
  throw new Problem(path, "must be a text")
}

const bytesOf = (path: string, value: unknown): Uint8Array =>
  Result.getOrThrowWith(Base64.decode(textOf(path, value)), () => new Problem(path, "must be base64"))

/** Large revisions are texts, because numbers of JSON are not exact. */
const integerOf = (path: string, value: unknown): bigint => {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return BigInt(value)
  if (typeof value === "string" && /^\d{1,19}$/.test(value)) return BigInt(value)
  throw new Problem(path, `must be a whole number, such as 1042 or "1042"`)
}

const leaseOf = (path: string, value: unknown): bigint => {
  if (typeof value === "string" && /^[0-9a-f]{1,16}$/i.test(value)) return BigInt(`0x${value}`)
  throw new Problem(path, `must be the id of a lease in hexadecimal, such as "694d8a3f2b1c"`)
}
