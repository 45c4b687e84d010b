/**
 * Temporary keys: they exist while a scope is open, and not after.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import * as TempKey from "@effect-kv/core/TempKey"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { chapter, newClient, reasonOf, rejects, Store, test, waitingTest, waitUntil } from "./Case.ts"
import { entryOf, textOf } from "./entries.ts"
import * as faults from "./faults.ts"
import { on, soon } from "./locking.ts"
import { capturing, type Line } from "./logging.ts"
import { isThere, leaseOf, open } from "./tempKeyChecks.ts"

const line = (event: string, annotations: Line["annotations"]): Line => ({
  level: "Warn",
  message: `effect-kv: temporary key ${event}`,
  annotations
})

export const cases = chapter("temporary keys", [
  test("a temporary key exists once it is created, and is deleted when its scope closes", function*(kv) {
    const { close, tempKey } = yield* open(kv, "workers/a", { value: "me" })
    assert.strictEqual(tempKey.key, "workers/a")
    assert.strictEqual(yield* textOf(kv, "workers/a"), "me")
    assert.isTrue(Option.isSome((yield* entryOf(kv, "workers/a")).lease))
    yield* close
    assert.strictEqual(yield* kv.count(KeyRange.all), 0)
    const lost = yield* Effect.flip(tempKey.lost)
    assert.deepStrictEqual([lost._tag, lost.isRetryable, lost.outcome], ["TempKeyLost", false, "Unknown"])
    const late = yield* Effect.flip(tempKey.set("late"))
    assert.deepStrictEqual([late._tag, late.isRetryable, late.outcome], ["TempKeyLost", false, "NotApplied"])
  }),

  test("a temporary key without a given value has a unique value", function*(kv) {
    for (const key of ["a", "b", "c"]) yield* open(kv, key)
    const values = yield* Effect.forEach(["a", "b", "c"], (key) => textOf(kv, key))
    assert.strictEqual(new Set(values).size, 3)
  }),

  test(
    "of concurrent temporary keys with one name in one client, one is created and the others are taken",
    function*(kv) {
      const results = yield* Effect.all(
        Array.from({ length: 10 }, () => Effect.result(on(kv)(TempKey.make("once")))),
        { concurrency: "unbounded" }
      )
      const tags = results.map((result) => result._tag === "Success" ? "made" : result.failure._tag)
      assert.deepStrictEqual(tags.toSorted(), [...Array.from({ length: 9 }, () => "TempKeyTaken"), "made"])
    }
  ),

  test("temporary keys of one name in several namespaces are different keys on one lease", function*(kv) {
    const tenants = Array.from({ length: 10 }, (_, i) => `tenant-${i}/`)
    const keys = yield* Effect.forEach(tenants, (tenant) => on(Kv.prefixed(kv, tenant))(TempKey.make("alive")), {
      concurrency: "unbounded"
    })
    const leases = yield* Effect.forEach(keys, (tempKey) => tempKey.lease)
    assert.deepStrictEqual(leases, leases.map(() => leases[0]!))
    assert.isTrue(Option.isSome(leases[0]!))
    assert.strictEqual(yield* kv.count(KeyRange.all), 10)
  }),

  test("the number of running copies of a program is the count of their temporary keys", function*(kv) {
    const copies = [yield* open(kv, "copies/1"), yield* open(yield* newClient, "copies/2")]
    assert.strictEqual(yield* kv.count(KeyRange.prefix("copies/")), 2)
    yield* copies[0]!.close
    assert.strictEqual(yield* kv.count(KeyRange.prefix("copies/")), 1)
  }),

  test("withTempKey runs an effect while the key exists", function*(kv) {
    const seen = yield* on(kv)(TempKey.withTempKey(isThere(kv, "t"), "t"))
    assert.isTrue(seen)
    assert.isFalse(yield* isThere(kv, "t"))
    assert.strictEqual(yield* on(kv)(Effect.flip(Effect.fail("own").pipe(TempKey.withTempKey("t")))), "own")
    assert.isFalse(yield* isThere(kv, "t"))
  }),

  test("an invalid name or value of a temporary key is an InvalidRequest", function*(kv) {
    assert.strictEqual((yield* reasonOf(Effect.scoped(on(kv)(TempKey.make("")))))._tag, "InvalidRequest")
    assert.strictEqual(
      (yield* reasonOf(Effect.scoped(on(kv)(TempKey.make("t", { value: "\ud800" })))))._tag,
      "InvalidRequest"
    )
    assert.strictEqual((yield* reasonOf(Effect.scoped(on(kv)(TempKey.make("t", { ttl: 0 })))))._tag, "InvalidRequest")
  }),

  waitingTest("a temporary key outlives its time to live while its scope is open", function*(kv) {
    const store = yield* Store
    const { close } = yield* open(kv, "temp/kept", { ttl: "2 seconds" })
    const { createRevision } = yield* entryOf(kv, "temp/kept")
    yield* store.passTime("5 seconds")
    assert.strictEqual((yield* entryOf(kv, "temp/kept")).createRevision, createRevision)
    yield* close
  }),

  waitingTest("a temporary key is re-created when its lease is revoked or the key is deleted", function*(kv) {
    const { close } = yield* open(kv, "temp/again", { value: "me" })
    const lease = yield* leaseOf(kv, "temp/again")
    yield* backendOf(kv).leaseRevoke(lease)
    yield* waitUntil("the key exists again", isThere(kv, "temp/again"))
    assert.notStrictEqual(yield* leaseOf(kv, "temp/again"), lease)
    yield* kv.delete("temp/again")
    yield* waitUntil("the key exists again", isThere(kv, "temp/again"))
    assert.strictEqual(yield* textOf(kv, "temp/again"), "me")
    yield* close
    assert.isFalse(yield* isThere(kv, "temp/again"))
  }),

  waitingTest("a temporary key is re-created after an outage in which its lease expired", function*(kv) {
    const store = yield* Store
    const cut = faults.make()
    const client = yield* faults.newClientWith(cut)
    const { close } = yield* open(client, "temp/outage", { ttl: "2 seconds" })
    cut.before = () => faults.unavailable
    yield* waitUntil("the store has deleted the key", Effect.map(isThere(kv, "temp/outage"), (there) => !there))
    yield* store.passTime("1 second")
    cut.before = () => Effect.void
    yield* waitUntil("the key exists again", isThere(kv, "temp/outage"))
    yield* close
    assert.isFalse(yield* isThere(kv, "temp/outage"))
  }),

  waitingTest("by option a temporary key is not re-created, and its loss fails dependent effects", function*(kv) {
    const { tempKey } = yield* open(kv, "temp/fail", { onLost: "fail" })
    const waiting = yield* Effect.forkScoped(Effect.flip(tempKey.lost))
    yield* backendOf(kv).leaseRevoke(yield* leaseOf(kv, "temp/fail"))
    yield* waitUntil("the loss is reported", Effect.sync(() => waiting.pollUnsafe() !== undefined))
    assert.strictEqual((yield* Fiber.join(waiting)).key, "temp/fail")
    const running = yield* Effect.forkScoped(
      on(kv)(Effect.flip(TempKey.withTempKey(Effect.never, "temp/with", { onLost: "fail" })))
    )
    yield* soon("it is there", isThere(kv, "temp/with"))
    yield* kv.delete("temp/with")
    yield* waitUntil("the loss is reported", Effect.sync(() => running.pollUnsafe() !== undefined))
    assert.strictEqual((yield* Fiber.join(running))._tag, "TempKeyLost")
  }),

  test("the errors of a temporary key are encoded as JSON", function*(kv) {
    const lease = (yield* backendOf(kv).leaseGrant({ ttl: "1 minute" })).id
    yield* kv.put("t", "theirs", { lease })
    const json = (error: TempKey.TempKeyTaken | TempKey.TempKeyLost | KvError.KvError) =>
      JSON.parse(JSON.stringify(error))
    const taken = yield* Effect.flip(Effect.scoped(on(kv)(TempKey.make("t"))))
    assert.deepStrictEqual(json(taken), {
      _tag: "TempKeyTaken",
      key: "t",
      lease: `${lease}`,
      outcome: "NotApplied",
      isRetryable: true,
      message: taken.message
    })
    yield* kv.put("t", "theirs")
    assert.isNull(json(yield* Effect.flip(Effect.scoped(on(kv)(TempKey.make("t"))))).lease)
    const lost = yield* Effect.flip((yield* Effect.scoped(on(kv)(TempKey.make("u")))).set("x"))
    assert.deepStrictEqual(json(lost), {
      _tag: "TempKeyLost",
      key: "u",
      reason: "its scope was closed",
      outcome: "NotApplied",
      isRetryable: false,
      message: lost.message
    })
  }),

  waitingTest("a temporary key that its client lost but the store still has is re-created at once", function*(kv) {
    const store = yield* Store
    const cut = faults.make()
    const client = yield* faults.newClientWith(cut)
    // The lease stays alive in the store: its renewals arrive, and only their responses are lost.
    const { close, tempKey } = yield* open(client, "temp/twice", { value: "ours", ttl: "2 seconds" })
    const before = yield* leaseOf(kv, "temp/twice")
    cut.after = (call) => call.kind === "leaseKeepAlive" ? faults.unavailable : Effect.void
    cut.before = (call) => call.kind === "leaseRevoke" || faults.isRemoval(call) ? faults.unavailable : Effect.void
    const again = Effect.map(tempKey.lease, (lease) => Option.isSome(lease) && lease.value !== before)
    for (let i = 0; i < 40 && !(yield* again); i++) {
      yield* Effect.ignore(backendOf(kv).leaseKeepAlive(before))
      yield* store.passTime("250 millis")
    }
    assert.isTrue(yield* again)
    assert.strictEqual(yield* textOf(kv, "temp/twice"), "ours")
    cut.after = () => Effect.void
    cut.before = () => Effect.void
    yield* close
    assert.isFalse(yield* isThere(kv, "temp/twice"))
  }),

  test("set writes a value and keeps the lease; the handle has the lease and the revision", function*(kv) {
    const { close, tempKey } = yield* open(kv, "t", { value: "idle" })
    const made = yield* entryOf(kv, "t")
    assert.deepStrictEqual(yield* tempKey.lease, made.lease)
    assert.deepStrictEqual(yield* tempKey.revision, Option.some(made.modRevision))
    const revision = yield* tempKey.set("busy")
    const entry = yield* entryOf(kv, "t")
    assert.strictEqual(entry.lossyText, "busy")
    assert.deepStrictEqual([entry.lease, entry.modRevision], [made.lease, revision])
    assert.deepStrictEqual(yield* tempKey.revision, Option.some(revision))
    yield* Effect.forEach(["a", "b", "c"], tempKey.set, { concurrency: "unbounded" })
    assert.strictEqual(yield* textOf(kv, "t"), "c")
    assert.strictEqual((yield* reasonOf(tempKey.set("\ud800")))._tag, "InvalidRequest")
    yield* close
    assert.isFalse(yield* isThere(kv, "t"))
    assert.strictEqual((yield* Effect.flip(tempKey.set("late")))._tag, "TempKeyLost")
    assert.isFalse(yield* isThere(kv, "t"))
  }),

  waitingTest("a temporary key is re-created with the value that was set last", function*(kv) {
    const { tempKey } = yield* open(kv, "temp/value", { value: "first" })
    const loseAndFind = Effect.fnUntraced(function*(expected: string) {
      yield* backendOf(kv).leaseRevoke(yield* leaseOf(kv, "temp/value"))
      yield* waitUntil("the key exists again", isThere(kv, "temp/value"))
      assert.strictEqual(yield* textOf(kv, "temp/value"), expected)
      yield* soon("its owner has it", Effect.map(tempKey.lease, Option.isSome))
    })
    yield* loseAndFind("first")
    yield* tempKey.set("second")
    yield* loseAndFind("second")
    yield* kv.modify("temp/value", (text) => `${Option.getOrThrow(text)} and more`)
    yield* loseAndFind("second and more")
    const lease = Option.getOrThrow(yield* tempKey.lease)
    yield* kv.put("temp/value", "with its lease", { lease })
    yield* loseAndFind("with its lease")
  }),

  waitingTest("a set that arrives late does not replace a value that was set after it", function*(kv) {
    const cut = faults.make()
    const client = yield* faults.newClientWith(cut)
    const { tempKey } = yield* open(client, "temp/order", { value: "0" })
    cut.before = (call) => faults.isEntry(call) ? faults.lostResponse : Effect.void
    assert.strictEqual((yield* reasonOf(tempKey.set("1")))._tag, "Indeterminate")
    cut.before = () => Effect.void
    const late = cut.calls.findLast(faults.isEntry)!
    yield* tempKey.set("2")
    yield* backendOf(kv).execute(late.op!)
    assert.strictEqual(yield* textOf(kv, "temp/order"), "2")
    cut.after = (call) => faults.isEntry(call) ? faults.lostResponse : Effect.void
    assert.strictEqual((yield* reasonOf(tempKey.set("3")))._tag, "Indeterminate")
    cut.after = () => Effect.void
    yield* tempKey.set("4")
    assert.strictEqual(yield* textOf(kv, "temp/order"), "4")
  }),

  test("a client cannot detach its own temporary key from its lease", function*(kv) {
    const app = Kv.prefixed(kv, "app/")
    const { close, tempKey } = yield* open(app, "t", { value: "ours" })
    const before = yield* entryOf(kv, "app/t")
    const lease = Option.getOrThrow(yield* tempKey.lease)
    yield* rejects(app, "InvalidRequest", app.put("t", "plain"))
    yield* rejects(kv, "InvalidRequest", kv.put("app/t", "plain"))
    yield* rejects(kv, "InvalidRequest", kv.put("app/t", "plain", { lease: lease + 1n }))
    yield* rejects(app, "InvalidRequest", app.txn({ if: [Compare.exists("t")], else: [Op.put("t", "plain")] }))
    yield* rejects(app, "InvalidRequest", app.txn({ then: [Op.txn({ then: [Op.put("t", "plain")] })] }))
    yield* rejects(app, "InvalidRequest", app.testAndSet("t", Option.some("ours"), "plain"))
    yield* rejects(app, "InvalidRequest", app.compareAndSet("t", before.modRevision, "plain"))
    yield* rejects(app, "InvalidRequest", backendOf(app).execute(Op.put("t", "plain")))
    assert.strictEqual((yield* entryOf(kv, "app/t")).modRevision, before.modRevision)
    yield* app.put("t", "with its lease", { lease })
    yield* app.modify("t", () => "modified")
    assert.deepStrictEqual((yield* entryOf(kv, "app/t")).lease, before.lease)
    yield* kv.put("t", "the key of that name outside")
    yield* close
    assert.isFalse(yield* isThere(kv, "app/t"))
    yield* app.put("t", "an ordinary key")
    yield* Effect.flip(Effect.scoped(on(app)(TempKey.make("t"))))
    yield* app.put("t", "still an ordinary key")
  }),

  waitingTest("a client cannot put its own temporary key without its lease while it is lost", function*(kv) {
    const cut = faults.make()
    const client = yield* faults.newClientWith(cut)
    const { close, tempKey } = yield* open(client, "temp/detached", { value: "ours" })
    cut.before = (call) => faults.isEntry(call) ? faults.unavailable : Effect.void
    yield* kv.delete("temp/detached")
    yield* soon("it is lost", Effect.map(tempKey.lease, Option.isNone))
    assert.strictEqual((yield* reasonOf(client.put("temp/detached", "plain")))._tag, "InvalidRequest")
    assert.isFalse(yield* isThere(kv, "temp/detached"))
    cut.before = () => Effect.void
    yield* waitUntil("the key is re-created", Effect.map(tempKey.lease, Option.isSome))
    yield* close
    assert.isFalse(yield* isThere(kv, "temp/detached"))
  }),

  waitingTest("a temporary key logs one warning each time it is lost, re-created or taken", function*(kv) {
    const { layer, logged } = capturing()
    const reason = "another client has the key"
    yield* Effect.gen(function*() {
      const other = yield* newClient
      const { close } = yield* open(kv, "temp/logged", { onTaken: "wait" })
      const lease = yield* leaseOf(kv, "temp/logged")
      yield* other.delete("temp/logged")
      yield* waitUntil("the key is re-created", Effect.sync(() => logged.length === 2))
      yield* other.put("temp/logged", "theirs")
      yield* soon("it is taken", Effect.sync(() => logged.length === 3))
      yield* other.delete("temp/logged")
      yield* waitUntil("the key is re-created", Effect.sync(() => logged.length === 4))
      yield* close
      const failing = yield* open(kv, "temp/logged/taken")
      yield* other.txn({ then: [Op.delete("temp/logged/taken")] })
      yield* other.put("temp/logged/taken", "theirs")
      yield* Effect.flip(failing.tempKey.lost)
      yield* failing.close
      const taken = logged.splice(4).filter(({ message }) => message.endsWith("taken"))
      assert.deepStrictEqual(taken, [line("taken", { key: "temp/logged/taken", lease: "none", reason })])
      const key = "temp/logged"
      const deleted = "it was deleted, or its lease ended"
      const again = (n: number) => logged[n]!.annotations["lease"]
      assert.deepStrictEqual(logged, [
        line("lost", { key, lease: lease.toString(16), reason: deleted }),
        line("made again", { key, lease: again(1), reason: deleted }),
        line("taken", { key, lease: "none", reason }),
        line("made again", { key, lease: again(3), reason })
      ])
    }).pipe(Effect.provide(layer))
  }),

  waitingTest("a temporary key whose creation got no response or was interrupted is removed", function*(kv) {
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    const keep = yield* open(client, "temp/keeps-the-session")
    seen.after = (call) => faults.isEntry(call) ? faults.lostResponse : Effect.void
    assert.strictEqual((yield* reasonOf(Effect.scoped(on(client)(TempKey.make("temp/lost")))))._tag, "Unavailable")
    yield* soon("it is gone", Effect.map(isThere(kv, "temp/lost"), (there) => !there))
    const late = seen.calls.findLast(faults.isEntry)!
    yield* backendOf(kv).execute(late.op!)
    yield* soon("it is gone again", Effect.map(isThere(kv, "temp/lost"), (there) => !there))
    const barrier = yield* faults.barrier
    seen.after = (call) => faults.isEntry(call) ? barrier.stop : Effect.void
    const fiber = yield* Effect.forkScoped(Effect.scoped(on(client)(TempKey.make("temp/interrupted"))))
    yield* barrier.reached
    const interrupting = yield* Effect.forkScoped(Fiber.interrupt(fiber))
    yield* Effect.yieldNow
    yield* barrier.letGo
    yield* Fiber.join(interrupting)
    assert.isFalse(yield* isThere(kv, "temp/interrupted"))
    seen.after = () => Effect.void
    const again = yield* open(client, "temp/lost", { value: "again" })
    const { createRevision } = yield* entryOf(kv, "temp/lost")
    yield* Effect.flatMap(Store, (store) => store.passTime("1 second"))
    assert.strictEqual(
      (yield* entryOf(kv, "temp/lost")).createRevision,
      createRevision,
      "the key is not confused with the other one"
    )
    yield* again.close
    yield* keep.close
  }),

  waitingTest("a temporary key is gone within its time to live after its client has crashed", function*(kv) {
    const store = yield* Store
    const dead = faults.make()
    const scope = yield* Scope.make()
    const client = yield* Scope.provide(faults.newClientWith(dead), scope)
    yield* Scope.provide(on(client)(TempKey.make("temp/dead", { ttl: "2 seconds" })), scope)
    dead.before = () => faults.unavailable
    yield* Effect.forkScoped(Scope.close(scope, Exit.void))
    assert.isTrue(yield* isThere(kv, "temp/dead"))
    yield* store.passTime("4 seconds")
    assert.isFalse(yield* isThere(kv, "temp/dead"))
  }),

  test("a temporary key in a namespace is a key of that namespace", function*(kv) {
    const { close } = yield* open(Kv.prefixed(kv, "app/"), "t", { value: "me" })
    assert.strictEqual(yield* textOf(kv, "app/t"), "me")
    yield* close
    assert.isFalse(yield* isThere(kv, "app/t"))
  })
])
