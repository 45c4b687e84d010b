/**
 * Members: the live processes of a group. A member that the store lost is listed again, one that left is not.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Members from "@effect-kv/core/Members"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as KvFaults from "../../testing/KvFaults.ts"
import { chapter, newClient, promptly, reasonOf, rejects, Store, test, waitingTest, waitUntil } from "./Case.ts"
import { entryOf, textOf } from "./entries.ts"
import * as faults from "./faults.ts"
import { on, soon } from "./locking.ts"

type Options = Partial<Members.Options<string>> & { readonly id: string }

/** Joins with a value that is text, and returns once it is listed. */
const join = Effect.fnUntraced(function*(kv: Kv.Kv, name: string, options: Options) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const joining = on(kv)(Members.join(name, { value: `value of ${options.id}`, schema: Schema.String, ...options }))
  const member = yield* promptly(`${options.id} joins`, Scope.provide(joining, scope))
  return { member, leave: Scope.close(scope, Exit.void) }
})

const isListed = (kv: Kv.Kv, key: string) => Effect.map(kv.getEntry(key), Option.isSome)
const leaseOf = (kv: Kv.Kv, key: string) => Effect.map(entryOf(kv, key), ({ lease }) => Option.getOrThrow(lease))

const view = (kv: Kv.Kv, name: string) => promptly("the view", on(kv)(Members.view(name, Schema.String)))

/** The members in a snapshot, by their ids; `undefined` for a value that could not be decoded. */
const valuesOf = ({ members }: Members.Snapshot<string>) =>
  Object.fromEntries([...members].map(([id, value]) => [id, Option.getOrUndefined(Result.getSuccess(value))]))

const untilShown = (shown: Members.View<string>, expected: Record<string, string | undefined>) =>
  soon(
    `the members are ${JSON.stringify(expected)}`,
    Effect.map(shown.snapshot, (snapshot) => JSON.stringify(valuesOf(snapshot)) === JSON.stringify(expected))
  )

/** Whether the view says that it may be out of date. */
const isStale = (shown: Members.View<string>) =>
  Effect.map(shown.snapshot, ({ staleSince }) => Option.isSome(staleSince))

/** A client that can be cut off from the store. */
const cuttable = Effect.flatMap(newClient, (kv) => KvFaults.make(backendOf(kv), { deadline: "1 second" }))

/** The leases of a key, or `none` for a lack of one, in each of its versions. */
const recordLeases = Effect.fnUntraced(function*(kv: Kv.Kv, name: string) {
  const seen: Array<Option.Option<bigint>> = []
  const { events } = yield* kv.subscribe(KeyRange.prefix(`${name}/`))
  yield* Effect.forkScoped(Stream.runForEach(events, (event) =>
    Effect.sync(() => {
      if (event._tag === "Put") seen.push(event.entry.lease)
    })))
  return seen
})

/** Follows the shards of a member. */
const follow = Effect.fnUntraced(function*(kv: Kv.Kv, member: Members.Member<string>, shards: ReadonlyArray<string>) {
  const seen: Array<ReadonlyArray<string>> = []
  yield* Members.partition(member, shards).pipe(
    Stream.runForEach((mine) => Effect.sync(() => seen.push(mine))),
    on(kv),
    Effect.forkScoped
  )
  yield* soon("the first shards", Effect.sync(() => seen.length > 0))
  return seen
})

export const cases = chapter("members", [
  test("a member is a key of its group and id on a lease with a JSON value, until its scope closes", function*(kv) {
    const { leave, member } = yield* join(kv, "api", { id: "a", value: "10.0.0.7:80" })
    assert.deepStrictEqual([member.name, member.id, member.key], ["api", "a", "api/a"])
    const entry = yield* entryOf(kv, "api/a")
    assert.strictEqual(entry.lossyText, JSON.stringify("10.0.0.7:80"))
    assert.isTrue(Option.isSome(entry.lease))
    assert.deepStrictEqual([yield* member.lease, yield* member.revision], [
      entry.lease,
      Option.some(entry.modRevision)
    ])
    yield* leave
    assert.strictEqual(yield* kv.count(KeyRange.all), 0)
    assert.strictEqual((yield* Effect.flip(member.lost))._tag, "TempKeyLost")
    assert.strictEqual((yield* Effect.flip(member.update("late")))._tag, "TempKeyLost")
    assert.strictEqual(yield* kv.count(KeyRange.all), 0)
  }),

  test("joining is one request, and so are an update and leaving", function*(kv) {
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    yield* join(client, "other", { id: "keeps-the-session" })
    seen.calls.length = 0
    const { leave, member } = yield* join(client, "api", { id: "a" })
    const requests = () => seen.calls.filter((call) => call.kind === "execute").length
    assert.strictEqual(requests(), 1)
    const revision = yield* member.update("new")
    assert.strictEqual((yield* entryOf(kv, "api/a")).modRevision, revision)
    assert.strictEqual(requests(), 2)
    yield* leave
    assert.strictEqual(requests(), 3)
  }),

  test("a view shows all members in the order of their ids, and every change of them", function*(kv) {
    const other = yield* newClient
    const shown = yield* view(kv, "api")
    assert.deepStrictEqual(valuesOf(yield* shown.snapshot), {})
    yield* join(other, "api", { id: "c", value: "3" })
    const { leave } = yield* join(kv, "api", { id: "a", value: "1" })
    const { member } = yield* join(other, "api", { id: "b", value: "2" })
    yield* untilShown(shown, { a: "1", b: "2", c: "3" })
    const revision = yield* member.update("two")
    yield* untilShown(shown, { a: "1", b: "two", c: "3" })
    const snapshot = yield* shown.snapshot
    assert.isTrue(snapshot.revision >= revision)
    assert.deepStrictEqual(snapshot.staleSince, Option.none())
    yield* leave
    yield* untilShown(shown, { b: "two", c: "3" })
    const watched = yield* on(other)(Stream.runHead(Members.watch("api", Schema.String)))
    assert.deepStrictEqual(Option.map(watched, valuesOf), Option.some({ b: "two", c: "3" }))
  }),

  test("members of groups whose names extend another's, and deeper keys, are not in its view", function*(kv) {
    yield* join(kv, "api", { id: "a", value: "1" })
    yield* join(kv, "api2", { id: "b" })
    yield* join(kv, "api/eu", { id: "c" })
    yield* kv.put("api", "not a member")
    const shown = yield* view(kv, "api")
    assert.deepStrictEqual(valuesOf(yield* shown.snapshot), { a: "1" })
    const tenant = Kv.prefixed(kv, "tenant/")
    yield* join(tenant, "api", { id: "a", value: "the tenant's" })
    assert.deepStrictEqual(valuesOf(yield* (yield* view(tenant, "api")).snapshot), { a: "the tenant's" })
    yield* untilShown(shown, { a: "1" })
  }),

  test("a value that does not decode fails for its member alone, and the failure does not show it", function*(kv) {
    const shown = yield* view(kv, "api")
    yield* join(kv, "api", { id: "a", value: "1" })
    const { revision } = yield* kv.put("api/b", "{\"secret\":42}")
    yield* kv.put("api/c", "not JSON: secret")
    yield* kv.put("api/d", new Uint8Array([0xff]))
    yield* kv.put("api/e", "")
    yield* untilShown(shown, { a: "1", b: undefined, c: undefined, d: undefined, e: undefined })
    const { members } = yield* shown.snapshot
    const failure = Option.getOrThrow(Result.getFailure(members.get("b")!))
    assert.deepStrictEqual([failure._tag, failure.key, failure.revision], ["MemberUndecodable", "api/b", revision])
    assert.include(failure.message, `"api/b" at revision ${revision}`)
    for (const value of members.values()) {
      if (Result.isFailure(value)) assert.notInclude(JSON.stringify(value.failure) + String(value.failure), "secret")
    }
    yield* kv.put("api/b", JSON.stringify("mended"))
    yield* untilShown(shown, { a: "1", b: "mended", c: undefined, d: undefined, e: undefined })
  }),

  test("invalid names, ids and values of members are an InvalidRequest that does not show the value", function*(kv) {
    const attempt = (name: string, id: string, value = "") =>
      Effect.scoped(on(kv)(Members.join(name, { id, value, schema: Schema.String.check(Schema.isMaxLength(3)) })))
    for (const [name, id] of [["", "a"], ["api", ""], ["api", "a/b"], ["api", "\ud800"]] as const) {
      yield* rejects(kv, "InvalidRequest", attempt(name, id))
    }
    assert.notInclude((yield* rejects(kv, "InvalidRequest", attempt("api", "a", "secret"))).message, "secret")
    const me = yield* on(kv)(
      Members.join("api", { id: "a", value: "ok", schema: Schema.String.check(Schema.isMaxLength(3)) })
    )
    yield* rejects(kv, "InvalidRequest", me.update("secret"))
    assert.strictEqual((yield* reasonOf(on(kv)(Effect.scoped(Members.view("", Schema.String)))))._tag, "InvalidRequest")
  }),

  test("a member whose id another client has joins when that member is gone, or by option fails", function*(kv) {
    const first = yield* join(yield* newClient, "api", { id: "a", value: "first" })
    const taken = yield* Effect.flip(join(kv, "api", { id: "a", onTaken: "fail" }))
    assert.strictEqual(taken._tag, "TempKeyTaken")
    const second = yield* Effect.forkScoped(join(kv, "api", { id: "a", value: "second" }))
    yield* Effect.yieldNow
    assert.strictEqual(yield* textOf(kv, "api/a"), JSON.stringify("first"))
    yield* first.leave
    yield* promptly("the second joins", Fiber.join(second))
    assert.strictEqual(yield* textOf(kv, "api/a"), JSON.stringify("second"))
  }),

  test("concurrent updates of a member end with the last value, and each returns a revision", function*(kv) {
    const { member } = yield* join(kv, "api", { id: "a" })
    const revisions = yield* Effect.forEach([1, 2, 3, 4, 5], (i) => member.update(`${i}`), { concurrency: "unbounded" })
    assert.strictEqual(yield* textOf(kv, "api/a"), JSON.stringify("5"))
    const { modRevision } = yield* entryOf(kv, "api/a")
    assert.isTrue(revisions.every((revision) => revision <= modRevision) && revisions.includes(modRevision))
  }),

  test("an update under a lock is fenced", function*(kv) {
    const { member } = yield* join(kv, "api", { id: "a", value: "before" })
    const update = DistLock.use(
      "lock",
      (lock) => Effect.andThen(kv.delete(lock.key), Effect.exit(member.update("after")))
    )
    yield* Effect.exit(on(kv)(update))
    assert.strictEqual(yield* textOf(kv, "api/a"), JSON.stringify("before"))
    yield* member.update("later")
    assert.strictEqual(yield* textOf(kv, "api/a"), JSON.stringify("later"))
  }),

  test("the owner of a shard is stable, and a member that comes or goes moves only its own shards", function*() {
    const ids = Array.from({ length: 10 }, (_, i) => `member-${i}`)
    const shards = Array.from({ length: 1000 }, (_, i) => `shard-${i}`)
    const owners = shards.map((shard) => Members.owner(shard, ids)!)
    assert.deepStrictEqual(shards.map((shard) => Members.owner(shard, ids.toReversed())), owners)
    for (const id of ids) {
      const owned = owners.filter((owner) => owner === id).length
      assert.isTrue(owned > 60 && owned < 150, `${id} owns ${owned} of 1000 shards`)
    }
    const without = shards.map((shard) => Members.owner(shard, ids.slice(1)))
    for (const [i, owner] of owners.entries()) if (owner !== ids[0]) assert.strictEqual(without[i], owner)
    assert.isTrue(without.every((owner) => owner !== ids[0]))
    assert.isUndefined(Members.owner("shard", []))
    // Members of other versions compute the same.
    assert.deepStrictEqual(owners.slice(0, 8), [5, 9, 4, 9, 4, 4, 1, 9].map((i) => `member-${i}`))
    yield* Effect.void
  }),

  test("each shard of a partition belongs to one of the members in the store, as they come and go", function*(kv) {
    const shards = Array.from({ length: 20 }, (_, i) => `${i}`)
    const clients = [kv, yield* newClient, yield* newClient]
    const members = yield* Effect.forEach(clients, (client, i) => join(client, "api", { id: `${i}` }))
    const followed = yield* Effect.forEach(clients, (client, i) => follow(client, members[i]!.member, shards))
    const untilSpread = (...listed: ReadonlyArray<number>) =>
      soon(
        `the shards are spread over ${listed.join()}`,
        Effect.sync(() =>
          followed.every((seen, i) => {
            const expected = listed.includes(i)
              ? shards.filter((shard) => Members.owner(shard, listed.map(String)) === `${i}`)
              : []
            return seen.at(-1)!.join() === expected.join()
          })
        )
      )
    yield* untilSpread(0, 1, 2)
    const before = followed[1]!.length
    yield* members[0]!.member.update("a change of a value moves nothing")
    yield* members[2]!.leave
    yield* untilSpread(0, 1)
    assert.isAtMost(followed[1]!.length, before + 1)
  }),

  waitingTest("a member is back with its latest value after its lease is revoked or its key deleted", function*(kv) {
    const leases = yield* recordLeases(kv, "members-again")
    const { leave, member } = yield* join(kv, "members-again", { id: "a", value: "first" })
    const statuses: Array<string> = []
    yield* Effect.forkScoped(Stream.runForEach(member.status, ({ _tag }) => Effect.sync(() => statuses.push(_tag))))
    for (let i = 0; i < 3; i++) {
      yield* member.update(`${i}`)
      const before = yield* leaseOf(kv, member.key)
      if (i % 2 === 0) yield* backendOf(kv).leaseRevoke(before)
      else yield* kv.delete(member.key)
      yield* waitUntil("the member is back", isListed(kv, member.key), 8)
      assert.strictEqual(yield* textOf(kv, member.key), JSON.stringify(`${i}`))
      yield* waitUntil("its status follows", Effect.map(member.lease, Option.isSome), 8)
    }
    yield* leave
    assert.isFalse(yield* isListed(kv, member.key))
    assert.include(statuses, "Lost")
    assert.isTrue(leases.length > 6 && leases.every(Option.isSome), "no version of the key is without a lease")
  }),

  waitingTest(
    "a member whose lease expired in an outage is back 2 seconds after the store, with the value of then, each time",
    function*(kv) {
      const store = yield* Store
      const client = yield* cuttable
      const { leave, member } = yield* join(client.kv, "members-outage", { id: "a", value: "before", ttl: "1 second" })
      for (const value of ["first outage", "second outage"]) {
        yield* client.partition({ requests: "refused" })
        yield* store.passTime("500 millis")
        const update = yield* Effect.forkScoped(member.update(value))
        yield* waitUntil("the store has deleted the member", Effect.map(isListed(kv, member.key), (there) => !there))
        yield* store.passTime("1 second")
        yield* client.heal
        yield* waitUntil("the member is back", isListed(kv, member.key), 8)
        assert.strictEqual(yield* textOf(kv, member.key), JSON.stringify(value))
        yield* waitUntil("the update returns", Effect.sync(() => update.pollUnsafe() !== undefined), 8)
        assert.isTrue(Exit.isSuccess(yield* Fiber.await(update)))
      }
      yield* leave
      assert.isFalse(yield* isListed(kv, member.key))
    }
  ),

  waitingTest("a member and a view that start while the store is unreachable are there when it comes", function*(kv) {
    const store = yield* Store
    const client = yield* cuttable
    yield* client.partition({ requests: "refused" })
    const member = yield* Effect.forkScoped(join(client.kv, "members-early", { id: "a", value: "1" }))
    const shown = yield* Effect.forkScoped(view(client.kv, "members-early"))
    yield* store.passTime("1 second")
    assert.isUndefined(member.pollUnsafe())
    assert.isUndefined(shown.pollUnsafe())
    yield* client.heal
    yield* waitUntil("the member is listed", isListed(kv, "members-early/a"), 8)
    yield* waitUntil("the view is open", Effect.sync(() => shown.pollUnsafe() !== undefined), 8)
    yield* untilShown(yield* Fiber.join(shown), { a: "1" })
    const wrong = yield* reasonOf(join(client.kv, "", { id: "a" }))
    assert.strictEqual(wrong._tag, "InvalidRequest")
  }),

  waitingTest("a member that leaves in an outage is gone when the store is back, before its lease ends", function*(kv) {
    const client = yield* cuttable
    const { leave, member } = yield* join(client.kv, "members-leave", { id: "a", ttl: "60 seconds" })
    yield* client.partition({ requests: "refused" })
    const leaving = yield* Effect.forkScoped(leave)
    yield* waitUntil("leaving returns", Effect.sync(() => leaving.pollUnsafe() !== undefined), 12)
    assert.isTrue(yield* isListed(kv, member.key))
    yield* client.heal
    yield* waitUntil("the member is gone", Effect.map(isListed(kv, member.key), (there) => !there), 12)
  }),

  waitingTest("a view shows the last members as stale in an outage, and who came and left after it", function*(kv) {
    const client = yield* cuttable
    const { leave } = yield* join(kv, "members-stale", { id: "a", value: "1" })
    const shown = yield* view(client.kv, "members-stale")
    const staleness: Array<boolean> = []
    yield* Effect.forkScoped(
      Stream.runForEach(shown.changes, ({ staleSince }) => Effect.sync(() => staleness.push(Option.isSome(staleSince))))
    )
    yield* soon("the first snapshot", Effect.sync(() => staleness.length > 0))
    yield* client.partition({ requests: "refused" })
    yield* waitUntil("the view is stale", isStale(shown))
    yield* leave
    yield* join(kv, "members-stale", { id: "b", value: "2" })
    assert.deepStrictEqual(valuesOf(yield* shown.snapshot), { a: "1" })
    yield* client.heal
    yield* waitUntil("the view is current", Effect.map(isStale(shown), (stale) => !stale))
    // Not stale means that nothing is missing.
    assert.deepStrictEqual(valuesOf(yield* shown.snapshot), { b: "2" })
    yield* soon("the changes say so", Effect.sync(() => staleness.includes(true) && staleness.at(-1) === false))
  }),

  waitingTest("a view that was cut off while history was compacted shows who left", function*(kv) {
    const client = yield* cuttable
    const { leave } = yield* join(kv, "members-compacted", { id: "a", value: "1" })
    yield* join(kv, "members-compacted", { id: "b", value: "2" })
    const shown = yield* view(client.kv, "members-compacted")
    yield* client.cutWatches({ compacted: true })
    yield* leave
    yield* waitUntil(
      "the member has left the view",
      Effect.map(shown.snapshot, (snapshot) => JSON.stringify(valuesOf(snapshot)) === JSON.stringify({ b: "2" }))
    )
    yield* waitUntil("the view is current", Effect.map(isStale(shown), (stale) => !stale))
  }),

  waitingTest("a member that is cut off gives up its shards before the others take them over", function*(kv) {
    const shards = Array.from({ length: 10 }, (_, i) => `${i}`)
    const client = yield* cuttable
    const cut = yield* join(client.kv, "members-shards", { id: "cut", ttl: "2 seconds" })
    const other = yield* join(kv, "members-shards", { id: "other" })
    const ofCut = yield* follow(client.kv, cut.member, shards)
    const ofOther = yield* follow(kv, other.member, shards)
    const spread = (ofCut: ReadonlyArray<string>, ofOther: ReadonlyArray<string>) =>
      ofCut.length + ofOther.length === shards.length && ofCut.length > 0
    yield* waitUntil("the shards are spread", Effect.sync(() => spread(ofCut.at(-1)!, ofOther.at(-1)!)))
    let atTakeOver: ReadonlyArray<string> | undefined
    yield* Members.partition(other.member, shards).pipe(
      Stream.filter((mine) => mine.length === shards.length),
      Stream.take(1),
      Stream.runForEach(() => Effect.sync(() => atTakeOver = ofCut.at(-1))),
      on(kv),
      Effect.forkScoped
    )
    yield* client.partition({ requests: "refused" })
    yield* waitUntil("the other takes over", Effect.sync(() => atTakeOver !== undefined))
    assert.deepStrictEqual(atTakeOver, [])
    yield* client.heal
    yield* waitUntil("both have their shards again", Effect.sync(() => spread(ofCut.at(-1)!, ofOther.at(-1)!)))
  }),

  waitingTest("a value that the store rejects fails its update, and keeps no lost member out", function*(kv) {
    const { limits, passTime } = yield* Store
    const client = yield* cuttable
    const { member } = yield* join(client.kv, "members-large", { id: "a", value: "small", ttl: "1 second" })
    const update = yield* Effect.forkScoped(reasonOf(member.update("x".repeat(limits.maxRequestBytes + 1))))
    yield* waitUntil("the update fails", Effect.sync(() => update.pollUnsafe() !== undefined))
    assert.strictEqual((yield* Fiber.join(update))._tag, "RequestTooLarge")
    yield* client.partition({ requests: "refused" })
    yield* waitUntil("the store has deleted it", Effect.map(isListed(kv, member.key), (there) => !there))
    yield* waitUntil("it has noticed", Effect.map(member.lease, Option.isNone))
    const later = yield* Effect.forkScoped(reasonOf(member.update("y".repeat(limits.maxRequestBytes + 1))))
    yield* passTime("500 millis")
    yield* client.heal
    yield* waitUntil("the member is back", isListed(kv, member.key))
    yield* waitUntil("the update fails", Effect.sync(() => later.pollUnsafe() !== undefined))
    assert.strictEqual((yield* Fiber.join(later))._tag, "RequestTooLarge")
    assert.strictEqual(yield* textOf(kv, member.key), JSON.stringify("small"))
  }),

  waitingTest("an own member that another client has deleted is not shown, until it is back", function*(kv) {
    const blocked = faults.make()
    const client = yield* faults.newClientWith(blocked)
    const { member } = yield* join(client, "members-own", { id: "a", value: "1" })
    const shown = yield* view(client, "members-own")
    yield* untilShown(shown, { a: "1" })
    blocked.before = (call) => faults.isEntry(call) ? faults.unavailable : Effect.void
    yield* kv.delete(member.key)
    yield* untilShown(shown, {})
    blocked.before = () => Effect.void
    yield* waitUntil("the member is back", isListed(kv, member.key), 8)
    yield* untilShown(shown, { a: "1" })
  })
])
