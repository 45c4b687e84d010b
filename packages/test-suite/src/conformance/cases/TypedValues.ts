/**
 * Typed values: collections whose keys and values have schemas, and entries that the schemas do not accept.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import * as KvCollection from "@effect-kv/core/KvCollection"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { chapter, newClient, promptly, reasonOf, rejects, revisionOf, Store, test } from "./Case.ts"
import { entryOf, putAll, textOf } from "./entries.ts"
import * as faults from "./faults.ts"
import * as fences from "./fences.ts"
import { on, soon } from "./locking.ts"

const User = Schema.Struct({ name: Schema.String, logins: Schema.Number })

const usersOf = (kv: Kv.Kv, prefix = "users/") => on(kv)(KvCollection.make(prefix, { key: Schema.String, value: User }))

const ada = { name: "Ada", logins: 0 }

const login = Option.match({
  onNone: () => ({ name: "new", logins: 1 }),
  onSome: (user: typeof User.Type) => ({ ...user, logins: user.logins + 1 })
})

/** The keys of the items, and of the entries that do not decode in brackets, in the order of the store. */
const keysOf = (
  items: ReadonlyArray<Result.Result<KvCollection.Item<string, unknown>, KvCollection.DecodeError>>
): ReadonlyArray<string> =>
  items.map(Result.match({ onFailure: (error) => `[${error.key}]`, onSuccess: (item) => item.key }))

/** The error as everything that may be logged of it. */
const printed = (error: object): string =>
  [String(error), JSON.stringify(error), Object.values(error).map(String).join(), `${(error as Error).stack}`].join(
    "\n"
  )

/** Values that are no users, each with the secret in it. */
const secret = "hunter2"
const undecodable: ReadonlyArray<string | Uint8Array> = [
  "",
  secret,
  `{ "name": "${secret}"`,
  `"${secret}"`,
  `{ "name": "${secret}", "logins": "${secret}" }`,
  `{ "${secret}": 1, "logins": 1 }`,
  new Uint8Array([0xff, ...new TextEncoder().encode(secret)])
]

export const cases = chapter("typed values", [
  test("a value is stored as JSON, and returned as it was given", function*(kv) {
    const Job = Schema.Struct({ at: Schema.Date, size: Schema.BigInt, tags: Schema.Array(Schema.String) })
    const jobs = yield* on(kv)(KvCollection.make("jobs/", { key: Schema.String, value: Job }))
    const job = { at: new Date(0), size: 2n ** 70n, tags: ["a", "é"] }
    const revision = yield* jobs.put("1", job)
    assert.deepStrictEqual(JSON.parse(`${yield* textOf(kv, "jobs/1")}`), {
      at: "1970-01-01T00:00:00.000Z",
      size: `${2n ** 70n}`,
      tags: ["a", "é"]
    })
    assert.deepStrictEqual(yield* jobs.get("1"), Option.some(job))
    const item = Option.getOrThrow(yield* jobs.getItem("1"))
    assert.deepStrictEqual([item.key, item.revision, item.createRevision], ["1", revision, revision])
    assert.deepStrictEqual(yield* jobs.get("2"), Option.none())
    assert.isTrue(yield* jobs.delete("1"))
    assert.isFalse(yield* jobs.delete("1"))
    assert.deepStrictEqual(yield* jobs.list, [])
  }),

  test("of a hundred entries, one that does not decode is one failure with its key and revision", function*(kv) {
    const users = yield* usersOf(kv)
    const keys = Array.from({ length: 100 }, (_, i) => `users/${i}`)
    yield* putAll(kv, keys, (key) => JSON.stringify({ name: key, logins: 0 }))
    for (const value of undecodable) {
      const { revision } = yield* kv.put("users/50", value)
      const items = yield* users.list
      assert.lengthOf(items.filter(Result.isSuccess), 99)
      const [error] = items.filter(Result.isFailure).map(({ failure }) => failure)
      assert.deepInclude({ ...error }, { _tag: "DecodeError", key: "users/50", revision, part: "value" })
      assert.strictEqual((yield* Effect.flip(users.get("50")))._tag, "DecodeError")
      assert.strictEqual((yield* Effect.flip(users.update("50", login)))._tag, "DecodeError")
      assert.strictEqual((yield* entryOf(kv, "users/50")).modRevision, revision, "nothing was written")
    }
    yield* users.put("50", ada)
    assert.deepStrictEqual(yield* users.get("50"), Option.some(ada))
  }),

  test("no error of a collection shows a value", function*(kv) {
    const Strict = Schema.Struct({
      name: Schema.String,
      logins: Schema.Number,
      notes: Schema.optionalKey(Schema.Record(Schema.String, Schema.Number))
    }).check(Schema.makeFilter(({ name }) => name === secret ? `${name} is not a name` : true))
    const users = yield* on(kv)(KvCollection.make("users/", { key: Schema.String, value: Strict }))
    const values = [
      ...undecodable,
      `{ "name": "${secret}", "logins": 1 }`,
      `{ "name": "a", "logins": 1, "notes": { "${secret}": "${secret}" } }`
    ]
    for (const value of values) {
      yield* kv.put("users/a", value)
      const error = yield* Effect.flip(users.get("a"))
      assert.strictEqual(error._tag, "DecodeError")
      assert.notInclude(printed(error), secret)
      assert.include(error.message, "users/a")
    }
    const error = yield* Effect.flip(users.put("a", { name: secret, logins: 1 }))
    assert.strictEqual(error._tag, "EncodeError")
    assert.notInclude(printed(error), secret)
    yield* users.put("a", { name: "a", logins: 1, notes: {} })
    assert.notInclude(`${Option.getOrThrow(yield* users.getItem("a"))}`, "notes")
  }),

  test("a decode failure says where the value does not match", function*(kv) {
    const users = yield* usersOf(kv)
    yield* kv.put("users/a", `{ "name": "Ada", "logins": "many" }`)
    const wrong = yield* Effect.flip(users.get("a"))
    assert.include(wrong.message, `["logins"]: expected a number`)
    yield* kv.put("users/a", `{ "name": "Ada" }`)
    const missing = yield* Effect.flip(users.get("a"))
    assert.include(missing.message, `["logins"]: missing`)
    yield* kv.put("users/a", "Ada")
    assert.include((yield* Effect.flip(users.get("a"))).message, "not JSON")
  }),

  test("a key that cannot be encoded fails with EncodeError, and nothing is read or written", function*(kv) {
    const users = yield* usersOf(kv)
    const before = yield* revisionOf(kv)
    for (const key of ["", "a/b", "/", "../x", "\ud800"]) {
      const view = yield* users.view
      const calls: ReadonlyArray<Effect.Effect<unknown, object>> = [
        users.get(key),
        users.put(key, ada),
        users.update(key, login),
        users.delete(key),
        view.get(key)
      ]
      for (const call of calls) {
        const error = yield* Effect.flip(call)
        assert.deepInclude({ ...error }, { _tag: "EncodeError", part: "key", outcome: "NotApplied" }, key)
      }
    }
    const Even = Schema.Number.check(Schema.isMultipleOf(2))
    const numbers = yield* on(kv)(
      KvCollection.make("n/", { key: Schema.NumberFromString.check(Schema.isInt()), value: Even })
    )
    assert.strictEqual((yield* Effect.flip(numbers.put(0.5, 2)))._tag, "EncodeError")
    assert.deepInclude({ ...(yield* Effect.flip(numbers.put(1, 3))) }, { _tag: "EncodeError", part: "value" })
    assert.strictEqual(yield* revisionOf(kv), before)
  }),

  test("a key in another form than the schema writes is a failure, not a second key", function*(kv) {
    const numbers = yield* on(kv)(
      KvCollection.make("n/", { key: Schema.NumberFromString, value: Schema.String })
    )
    yield* numbers.put(1, "one")
    yield* putAll(kv, ["n/01", "n/x", "n/"], () => `"foreign"`)
    const items = yield* numbers.list
    assert.deepStrictEqual(
      items.map(Result.match({ onFailure: ({ key, part }) => `${key} ${part}`, onSuccess: ({ key }) => key })),
      ["n/ key", "n/01 key", 1, "n/x key"]
    )
  }),

  test("a collection contains no key of another one whose name extends its own", function*(kv) {
    const [jobs, jobs2, nested] = [
      yield* usersOf(kv, "jobs/"),
      yield* usersOf(kv, "jobs2/"),
      yield* usersOf(kv, "jobs/2/")
    ]
    const view = yield* jobs.view
    const start = yield* revisionOf(kv)
    for (const collection of [jobs2, nested, jobs]) yield* collection.put("a", ada)
    yield* nested.delete("a")
    yield* jobs.delete("a")
    assert.deepStrictEqual(keysOf(yield* jobs2.list), ["a"])
    assert.deepStrictEqual(keysOf(yield* jobs.list), [])
    const changes = yield* jobs.watch({ startRevision: start + 1n }).pipe(Stream.take(2), Stream.runCollect)
    assert.deepStrictEqual(changes.map(({ _tag }) => _tag), ["Put", "Delete"])
    const snapshot = yield* promptly("the view", view.waitUntil(({ revision }) => revision >= start + 5n))
    assert.deepStrictEqual(snapshot.items, [])
    yield* rejects(kv, "InvalidRequest", usersOf(kv, "jobs"))
  }),

  test("a key can be a list of segments", function*(kv) {
    const Key = Schema.Tuple([Schema.String, Schema.NumberFromString])
    const rooms = yield* on(kv)(KvCollection.make("rooms/", { key: Key, value: Schema.String }))
    yield* rooms.put(["east", 7], "seven")
    assert.strictEqual(yield* textOf(kv, "rooms/east/7"), `"seven"`)
    yield* putAll(kv, ["rooms/east", "rooms/east/7/8"], () => `"of others"`)
    const items = yield* rooms.list
    assert.deepStrictEqual(items.map(Result.map(({ key, value }) => `${key.join()} ${value}`)), [
      Result.succeed("east,7 seven")
    ])
  }),

  test("64 concurrent updates of one key by four clients lose none", function*(kv) {
    const clients = yield* Effect.forEach(
      Array.from({ length: 4 }),
      () => Effect.flatMap(newClient, (kv) => usersOf(kv))
    )
    yield* promptly(
      "all updates",
      Effect.forEach(
        Array.from({ length: 64 }, (_, i) => i),
        (i) => clients[i % 4]!.update("ada", login),
        { concurrency: "unbounded" }
      )
    )
    const users = yield* usersOf(kv)
    const item = Option.getOrThrow(yield* users.getItem("ada"))
    assert.strictEqual(item.value.logins, 64)
    assert.strictEqual((yield* entryOf(kv, "users/ada")).version, 64)
  }),

  test("an update keeps the lease of its key, and can decline", function*(kv) {
    const users = yield* usersOf(kv)
    const { id } = yield* backendOf(kv).leaseGrant({ ttl: "1 hour" })
    yield* users.put("ada", ada, { lease: id })
    yield* users.update("ada", login)
    assert.deepStrictEqual((yield* entryOf(kv, "users/ada")).lease, Option.some(id))
    yield* users.put("ada", ada, { lease: "keep" })
    assert.deepStrictEqual((yield* entryOf(kv, "users/ada")).lease, Option.some(id))
    const before = yield* revisionOf(kv)
    assert.deepStrictEqual(yield* users.updateSome("ada", () => Option.none()), Option.none())
    assert.strictEqual(yield* revisionOf(kv), before)
    assert.deepStrictEqual(
      yield* users.updateSome("ada", Option.map((user) => ({ ...user, logins: 9 }))),
      Option.some({
        name: "Ada",
        logins: 9
      })
    )
    yield* backendOf(kv).leaseRevoke(id)
    assert.deepStrictEqual(yield* users.get("ada"), Option.none())
  }),

  test("an update whose response is lost fails with Indeterminate, and was applied once", function*() {
    const lossy = faults.make()
    const users = yield* usersOf(yield* faults.newClientWith(lossy))
    yield* users.put("ada", ada)
    let losses = 1
    lossy.after = (call) => call.op?._tag === "Txn" && losses-- > 0 ? faults.lostResponse : Effect.void
    const reason = yield* reasonOf(users.update("ada", login))
    assert.strictEqual(reason._tag, "Indeterminate")
    assert.deepStrictEqual(yield* users.get("ada"), Option.some({ name: "Ada", logins: 1 }))
    yield* users.update("ada", login)
    assert.deepStrictEqual(yield* users.get("ada"), Option.some({ name: "Ada", logins: 2 }))
  }),

  test("a watch delivers every change in order, and continues after one that does not decode", function*(kv) {
    const users = yield* usersOf(kv)
    const start = yield* users.put("a", ada)
    yield* kv.put("users/b", "?")
    yield* users.put("c", ada)
    yield* kv.txn({ then: [Op.delete("users/a"), Op.put("users/b", JSON.stringify(ada))] })
    yield* users.delete("b")
    const changes = yield* users.watch({ startRevision: start }).pipe(Stream.take(6), Stream.runCollect)
    assert.deepStrictEqual(
      changes.map((change) =>
        change._tag === "Put"
          ? `${change.revision - start} ${keysOf([change.item]).join()}`
          : `${change.revision - start} -${Result.getOrThrow(change.key)}`
      ),
      ["0 a", "1 [users/b]", "2 c", "3 -a", "3 b", "4 -b"]
    )
  }),

  test("a view shows the collection, and the entries that do not decode beside it", function*(kv) {
    const users = yield* usersOf(kv)
    yield* users.put("a", ada)
    const view = yield* users.view
    assert.deepStrictEqual(yield* view.get("a"), Option.some(ada))
    assert.deepStrictEqual(yield* view.get("b"), Option.none())
    yield* kv.put("users/b", secret)
    yield* users.put("c", ada)
    const { items } = yield* promptly("c", view.waitUntil(({ items }) => items.length === 3))
    assert.deepStrictEqual(keysOf(items).toSorted(), ["[users/b]", "a", "c"])
    const error = yield* Effect.flip(view.get("b"))
    assert.strictEqual(error._tag, "DecodeError")
    yield* kv.put("users/b", JSON.stringify(ada))
    yield* soon("b", Effect.map(Effect.result(view.get("b")), Result.isSuccess))
    yield* kv.deleteRange(KeyRange.prefix("users/"))
    yield* promptly("empty", view.waitUntil(({ items }) => items.length === 0))
  }),

  test("a list that is longer than a page is complete even if history is compacted between two pages", function*(kv) {
    const store = yield* Store
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    const all = yield* on(client)(KvCollection.make("many/", { key: Schema.String, value: Schema.Int }))
    const items = Array.from({ length: 600 }, (_, i) => Op.put(`many/${String(i).padStart(3, "0")}`, `${i}`))
    for (let i = 0; i < items.length; i += 100) yield* kv.txn({ then: items.slice(i, i + 100) })
    let isCompacted = false
    seen.before = ({ op }) => {
      if (isCompacted || op?._tag !== "Range" || op.revision === undefined) return Effect.void
      isCompacted = true
      return Effect.orDie(Effect.flatMap(kv.put("many/600", "600"), ({ revision }) => store.compact(revision)))
    }
    const list = yield* all.list
    assert.isTrue(isCompacted)
    assert.deepStrictEqual(
      list.map(Result.getOrThrow).map(({ value }) => value),
      Array.from({ length: 601 }, (_, i) => i)
    )
  }),

  test("a collection that was made before a lock writes under the lock's fence", function*(kv) {
    const client = yield* fences.blindClient
    const all = yield* on(client)(KvCollection.make("", { key: Schema.String, value: Schema.String }))
    yield* fences.isFenced(kv, client, "l", (value) => all.put("k", value), "put")
    yield* fences.isFenced(kv, client, "l", (value) => all.update("k", () => value), "update")
    yield* fences.isFenced(
      kv,
      client,
      "l",
      (value) => value === "held" ? Effect.void : Effect.andThen(kv.delete("k"), all.delete("k")),
      "remove"
    )
  })
])
