/**
 * Work with typed values: a collection of counts that clients update, and a view of it in each client.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as KvCollection from "@effect-kv/core/KvCollection"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { RecordedClient, Step } from "./Worker.ts"
import { unique } from "./Worker.ts"

/** The prefix of the collection. */
export const collectionPrefix = (prefix: string): string => `${prefix}users/`

/** A count of updates. `mark` makes each value unique. */
const User = Schema.Struct({ count: Schema.Int, mark: Schema.String })
export type User = typeof User.Type

const decode = Schema.decodeUnknownOption(Schema.fromJsonString(User))

/** The count in a value of the store; `undefined` if it is not a user. */
export const countOf = (value: string): number | undefined =>
  Option.getOrUndefined(Option.map(decode(value), ({ count }) => count))

/** What a view shows of a value. */
export const shownOf = (user: User): string => `${user.count} ${user.mark}`

/** The same of a value of the store. */
export const shownOfValue = (value: string): string =>
  Option.match(decode(value), { onNone: () => undecodable, onSome: shownOf })

/** What a view shows of a value that does not decode. */
export const undecodable = "undecodable"

const open = (client: RecordedClient) =>
  Effect.provideService(
    KvCollection.make(collectionPrefix(client.prefix), { key: Schema.String, value: User }),
    Kv.Kv,
    client.kv
  )

/** Updates a user; now and then something else writes a value that is not a user, or deletes it. */
export const update: Step = (client, random) => {
  const id = `${random.int(0, 3)}`
  const choice = random.next()
  if (choice < 0.9) return increment(client, id)
  if (choice < 0.95) {
    return Effect.flatMap(
      open(client),
      (users) => Effect.catchTag(users.delete("foreign"), "EncodeError", Effect.die)
    )
  }
  return Effect.flatMap(unique(client), (value) => client.kv.put(`${collectionPrefix(client.prefix)}foreign`, value))
}

/** Adds one to a user's count. */
export const increment = Effect.fnUntraced(function*(client: RecordedClient, id: string) {
  const users = yield* open(client)
  const mark = yield* unique(client)
  yield* users.update(id, (current) => ({
    count: Option.match(current, { onNone: () => 0, onSome: ({ count }) => count }) + 1,
    mark
  })).pipe(Effect.catchTags({ DecodeError: Effect.die, EncodeError: Effect.die }))
})

/** The revisions of all values in the store. */
export const stored = ({ kv, prefix }: RecordedClient) =>
  Effect.map(
    kv.range(KeyRange.prefix(collectionPrefix(prefix)), { keysOnly: true }),
    ({ entries }) => entries.map(({ modRevision }) => modRevision)
  )

/** The revision of a value that a view shows, also of one that does not decode. */
export const revisionOf = (item: Result.Result<KvCollection.Item<string, User>, KvCollection.DecodeError>): bigint =>
  Result.isSuccess(item) ? item.success.revision : item.failure.revision

/** The view of a client, until the scope closes. */
export const view = (client: RecordedClient) => Effect.flatMap(open(client), (users) => users.view)
