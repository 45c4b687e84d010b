/**
 * The value of a member in the store: the JSON form of its schema, as text.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { Entry } from "../../values/Entry.ts"
import * as KvError from "../../values/KvError.ts"
import * as utf8 from "../values/utf8.ts"
import { MemberUndecodable } from "./model.ts"

/** Encodes a value. The failure does not contain it. */
export const encoder = <A>(schema: Schema.Codec<A, unknown>): (value: A) => Effect.Effect<string, KvError.KvError> => {
  const encode = Schema.encodeExit(Schema.fromJsonString(Schema.toCodecJson(schema)))
  return (value) => Effect.mapError(Effect.suspend(() => encode(value)), () => unencodable)
}

const unencodable = KvError.make(
  new KvError.InvalidRequest({ message: "the value of the member does not have the form of its schema" })
)

/** Decodes the value of an entry. An entry that was decoded before is not decoded again. */
export const decoder = <A>(
  schema: Schema.Codec<A, unknown>
): (entry: Entry) => Result.Result<A, MemberUndecodable> => {
  const decode = Schema.decodeExit(Schema.fromJsonString(Schema.toCodecJson(schema)))
  const known = new WeakMap<Entry, Result.Result<A, MemberUndecodable>>()
  return (entry) => {
    const before = known.get(entry)
    if (before !== undefined) return before
    const text = utf8.decodeStrict(entry.value)
    const exit = text === undefined ? undefined : decode(text)
    const result = exit !== undefined && Exit.isSuccess(exit)
      ? Result.succeed(exit.value)
      : Result.fail(new MemberUndecodable({ key: entry.key, revision: entry.modRevision }))
    known.set(entry, result)
    return result
  }
}
