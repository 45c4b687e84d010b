/**
 * Typed values: a registry of users that survives an entry it cannot read.
 *
 *     node examples/src/UserRegistry.ts
 *     KV_URL=http://127.0.0.1:2379 node examples/src/UserRegistry.ts
 */
import { KeyRange, Kv, KvCollection } from "@effect-kv/core"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as StoreByUrl from "./StoreByUrl.ts"

export const UserId = Schema.String.pipe(Schema.brand("UserId"))
export type UserId = typeof UserId.Type

export const User = Schema.Struct({
  name: Schema.String,
  logins: Schema.Number,
  lastLogin: Schema.optionalKey(Schema.Date)
})

/** The users, one key each. */
export const Users = KvCollection.make("users/", { key: UserId, value: User })

/** Counts a login. Two at the same moment count as two. */
export const login = Effect.fnUntraced(function*(id: UserId, at: Date) {
  const users = yield* Users
  return yield* users.update(
    id,
    Option.match({
      onNone: () => ({ name: id, logins: 1, lastLogin: at }),
      onSome: (user) => ({ ...user, logins: user.logins + 1, lastLogin: at })
    })
  )
})

/** A line for each user, and one for each entry that another program has broken. */
export const report = Effect.gen(function*() {
  const users = yield* Users
  return (yield* users.list).map(Result.match({
    onFailure: (error) => `unreadable: ${error.key}`,
    onSuccess: ({ value }) => `${value.name}: ${value.logins}`
  }))
})

export const program = Effect.gen(function*() {
  const kv = yield* Kv.Kv
  yield* kv.deleteRange(KeyRange.all)
  const ada = UserId.make("ada")
  yield* Effect.all([login(ada, new Date(0)), login(ada, new Date(1))], { concurrency: "unbounded" })
  yield* kv.put("users/bert", "<user name=\"Bert\"/>")
  yield* login(UserId.make("carl"), new Date(2))
  for (const line of yield* report) yield* Console.log(line)
})

if (process.argv[1] === import.meta.filename) {
  NodeRuntime.runMain(
    program.pipe(
      Effect.provide(Kv.layerPrefixed("examples/user-registry/")),
      Effect.provide(StoreByUrl.layer)
    )
  )
}
