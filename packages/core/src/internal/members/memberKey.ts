/**
 * The key of a member: `NAME/ID`, as in Go's `naming/endpoints`.
 */
import * as Effect from "effect/Effect"
import * as KeyRange from "../../values/KeyRange.ts"
import * as KvError from "../../values/KvError.ts"

/** The range of a group's members. It also contains the members of groups further down, such as `NAME/other`. */
export const rangeOf = (name: string): Effect.Effect<KeyRange.KeyRange, KvError.KvError> => {
  const problem = KeyRange.invalidKey(name)
  return problem === undefined
    ? Effect.succeed(KeyRange.prefix(`${name}/`))
    : invalid(`the name of a group is a key, and ${problem}`)
}

/** The key of a member. */
export const make = (name: string, id: string): Effect.Effect<string, KvError.KvError> => {
  const problem = id.includes("/")
    ? "contains no slash: NAME/ID/more belongs to another group"
    : KeyRange.invalidKey(id)
  return problem === undefined
    ? Effect.as(rangeOf(name), `${name}/${id}`)
    : invalid(`the id of a member is part of a key, and ${problem}`)
}

/** The id in a key of the group's range; `undefined` for a key of a group further down. */
export const idOf = (name: string, key: string): string | undefined => {
  const id = key.slice(name.length + 1)
  return id === "" || id.includes("/") ? undefined : id
}

const invalid = (message: string): Effect.Effect<never, KvError.KvError> =>
  KvError.fail(new KvError.InvalidRequest({ message }))
