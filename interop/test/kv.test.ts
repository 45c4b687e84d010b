/**
 * One store, two clients: what ours writes Go's reads and watches, and the reverse, byte for byte and revision by revision.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import * as TempKey from "@effect-kv/core/TempKey"
import type * as Watch from "@effect-kv/core/Watch"
import type * as GoClient from "@effect-kv/interop/GoClient"
import type { GoError } from "@effect-kv/interop/GoProgram"
import { assert, describe, layer } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { go, on, ours, server, until } from "./support/clients.ts"

/** An event as both clients report it. */
interface Change {
  readonly revision: bigint
  readonly type: "put" | "delete"
  readonly key: string
  readonly value: string
  readonly isCreate: boolean
  readonly lease: bigint
  readonly previous: string | undefined
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")

const fromOurs = (event: Watch.Event): Change => ({
  revision: event.revision,
  type: event._tag === "Put" ? "put" : "delete",
  key: event.key,
  value: event._tag === "Put" ? hex(event.entry.value) : "",
  isCreate: event._tag === "Put" && event.isCreate,
  lease: event._tag === "Put" ? Option.getOrElse(event.entry.lease, () => 0n) : 0n,
  previous: Option.getOrUndefined(Option.map(event.previous, (entry) => hex(entry.value)))
})

const fromGo = (event: GoClient.WatchResponse["events"][number]): Change => ({
  revision: event.entry.modRevision,
  type: event.type,
  key: event.entry.key,
  value: hex(event.entry.value),
  isCreate: event.isCreate,
  lease: event.entry.lease,
  previous: event.previous && hex(event.previous.value)
})

/** What a watch of ours delivers of a prefix up to and including a revision. */
const seenByUs = (kv: Kv.Kv, prefix: string, options?: { readonly since: bigint }) =>
  Effect.map(
    kv.subscribe(KeyRange.prefix(prefix), { previous: true, startRevision: options?.since }),
    ({ revisions }) => (revision: bigint) =>
      revisions.pipe(
        Stream.takeUntil((batch) => batch.revision >= revision),
        Stream.runCollect,
        Effect.map((all) => all.flatMap(({ events }) => events.map(fromOurs)))
      )
  )

/** What Go's watch delivers of a prefix up to and including a revision. */
const seenByGo = (client: GoClient.GoClient, prefix: string, options?: { readonly since: bigint }) =>
  Effect.map(
    client.watch(prefix, options && { revision: options.since }),
    (responses) =>
      Effect.fnUntraced(function*(revision: bigint) {
        const changes: Array<Change> = []
        while ((changes.at(-1)?.revision ?? 0n) < revision) {
          changes.push(...(yield* Queue.take(responses)).events.map(fromGo))
        }
        return changes
      })
  )

const text = (value: string): string => hex(Buffer.from(value))

layer(server, { excludeTestServices: true, timeout: "2 minutes" })((it) => {
  describe("watches", () => {
    it.effect("our watch sees Go's puts, deletes and transactions, in order, with their revisions", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const client = yield* go()
        const { lease } = yield* client.grant(60)
        const watched = yield* seenByUs(kv, "theirs/")
        const created = yield* client.put("theirs/a", "1")
        const replaced = yield* client.put("theirs/a", "2", lease)
        const written = yield* client.txn({
          if: [{ target: "value", key: "theirs/a", result: "=", value: "2" }],
          then: [
            { kind: "put", key: "theirs/b", value: "3" },
            { kind: "delete", key: "theirs/a" },
            { kind: "txn", txn: { then: [{ kind: "put", key: "theirs/c", value: "4" }] } }
          ]
        })
        assert.isTrue(written.succeeded)
        yield* client.put("elsewhere", "5")
        const deleted = yield* client.delete("theirs/", { prefix: true })
        const last = yield* client.put("theirs/end", "")
        const put = { type: "put", isCreate: false, lease: 0n, previous: undefined } as const
        const gone = { type: "delete", value: "", isCreate: false, lease: 0n } as const
        assert.deepStrictEqual(yield* watched(last.revision), [
          { ...put, revision: created.revision, key: "theirs/a", value: text("1"), isCreate: true },
          { ...put, revision: replaced.revision, key: "theirs/a", value: text("2"), lease, previous: text("1") },
          { ...put, revision: written.revision, key: "theirs/b", value: text("3"), isCreate: true },
          { ...gone, revision: written.revision, key: "theirs/a", previous: text("2") },
          { ...put, revision: written.revision, key: "theirs/c", value: text("4"), isCreate: true },
          { ...gone, revision: deleted.revision, key: "theirs/b", previous: text("3") },
          { ...gone, revision: deleted.revision, key: "theirs/c", previous: text("4") },
          { ...put, revision: last.revision, key: "theirs/end", value: "", isCreate: true }
        ])
      }))

    it.effect("Go's watch sees our puts, deletes and transactions, in order, with their revisions", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const client = yield* go()
        const lease = yield* backendOf(kv).leaseGrant({ ttl: "60 seconds" })
        const watched = yield* seenByGo(client, "ours/")
        const created = yield* kv.put("ours/a", "1")
        const replaced = yield* kv.put("ours/a", "2", { lease: lease.id })
        const written = yield* kv.txn({
          if: [Compare.value("ours/a", "=", "2")],
          then: [Op.put("ours/b", "3"), Op.delete("ours/a"), Op.txn({ then: [Op.put("ours/c", "4")] })]
        })
        const deleted = yield* kv.deleteRange(KeyRange.prefix("ours/"))
        const last = yield* kv.put("ours/end", "")
        const put = { type: "put", isCreate: false, lease: 0n, previous: undefined } as const
        const gone = { type: "delete", value: "", isCreate: false, lease: 0n } as const
        assert.deepStrictEqual(yield* watched(last.revision), [
          { ...put, revision: created.revision, key: "ours/a", value: text("1"), isCreate: true },
          {
            ...put,
            revision: replaced.revision,
            key: "ours/a",
            value: text("2"),
            lease: lease.id,
            previous: text("1")
          },
          { ...put, revision: written.revision, key: "ours/b", value: text("3"), isCreate: true },
          { ...gone, revision: written.revision, key: "ours/a", previous: text("2") },
          { ...put, revision: written.revision, key: "ours/c", value: text("4"), isCreate: true },
          { ...gone, revision: deleted.revision, key: "ours/b", previous: text("3") },
          { ...gone, revision: deleted.revision, key: "ours/c", previous: text("4") },
          { ...put, revision: last.revision, key: "ours/end", value: "", isCreate: true }
        ])
      }))

    it.effect("Go's watch sees each of our batched writes once, at the revision in its response", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const client = yield* go()
        const watched = yield* seenByGo(client, "batched/")
        const write = Effect.fnUntraced(function*(i: number) {
          const key = `batched/${i}`
          const put = yield* kv.put(key, `${i}`)
          const set = yield* kv.compareAndSet(key, put.revision, `${i} set`)
          const deleted = yield* kv.delete(key)
          return [
            `${put.revision} put ${key} ${text(`${i}`)}`,
            `${Option.getOrThrow(set)} put ${key} ${text(`${i} set`)}`,
            `${deleted.revision} delete ${key} `
          ]
        })
        const confirmed = yield* Effect.forEach(Array.from({ length: 500 }, (_, i) => i), write, {
          concurrency: "unbounded"
        })
        const last = yield* kv.put("batched/end", "")
        const changes = (yield* watched(last.revision)).slice(0, -1)
        assert.deepStrictEqual(
          changes.map(({ key, revision, type, value }) => `${revision} ${type} ${key} ${value}`).sort(),
          confirmed.flat().sort()
        )
        const revisions = changes.map(({ revision }) => revision)
        assert.deepStrictEqual(revisions, revisions.toSorted((a, b) => Number(a - b)), "in order")
        assert.isBelow(new Set(revisions).size, 1500 / 4, "batched: many share a revision")
      }))

    it.effect("both watches see the same history of two hundred writes that both sides make at the same time", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const client = yield* go()
        const since = (yield* kv.put("mixed/begin", "")).revision
        const live = { ours: yield* seenByUs(kv, "mixed/"), go: yield* seenByGo(client, "mixed/") }
        const key = (i: number) => `mixed/${i % 7}`
        const write = (i: number): Effect.Effect<unknown, KvError.KvError> => {
          if (i % 5 === 4) return kv.delete(key(i))
          return i % 5 === 3
            ? kv.txn({ then: [Op.put(key(i), `ours ${i}`), Op.delete(key(i + 1))] })
            : kv.put(key(i), `ours ${i}`)
        }
        const writeInGo = (i: number): Effect.Effect<unknown, GoError> => {
          if (i % 5 === 4) return client.delete(key(i))
          return i % 5 === 3
            ? client.txn({
              then: [{ kind: "put", key: key(i), value: `Go's ${i}` }, { kind: "delete", key: key(i + 1) }]
            })
            : client.put(key(i), `Go's ${i}`)
        }
        const numbers = Array.from({ length: 100 }, (_, i) => i)
        yield* Effect.all([
          Effect.forEach(numbers, write, { concurrency: 10, discard: true }),
          Effect.forEach(numbers, writeInGo, { concurrency: 10, discard: true })
        ], { concurrency: 2 })
        const last = (yield* kv.put("mixed/end", "")).revision
        const [mine, theirs] = [yield* live.ours(last), yield* live.go(last)]
        assert.deepStrictEqual(mine, theirs)
        assert.isAbove(mine.length, 160)
        // Watches from history deliver the same.
        const past = {
          ours: yield* seenByUs(kv, "mixed/", { since: since + 1n }),
          go: yield* seenByGo(client, "mixed/", { since: since + 1n })
        }
        assert.deepStrictEqual(yield* past.ours(last), mine)
        assert.deepStrictEqual(yield* past.go(last), mine)
      }))

    it.effect("a transaction of ours of a million bytes reaches Go's watch whole, in order and at one revision", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const client = yield* go()
        const plain = yield* client.watch("large/")
        const fragmented = yield* client.watch("large/", { fragment: true })
        const value = new Uint8Array(10_000).fill(7)
        const keys = Array.from({ length: 100 }, (_, i) => `large/${`${i}`.padStart(3, "0")}`)
        const { revision } = yield* kv.txn({ then: keys.map((key) => Op.put(key, value)) })
        for (const responses of [plain, fragmented]) {
          const seen: Array<Change> = []
          while (seen.length < keys.length) seen.push(...(yield* Queue.take(responses)).events.map(fromGo))
          assert.deepStrictEqual(seen.map((change) => change.key), keys)
          assert.isTrue(seen.every((change) => change.revision === revision && change.value === hex(value)))
        }
      }))
  })

  describe("values and keys", () => {
    const values: ReadonlyArray<readonly [name: string, value: Uint8Array]> = [
      ["empty", new Uint8Array(0)],
      ["every byte", Uint8Array.from({ length: 256 }, (_, i) => i)],
      ["not UTF-8", new Uint8Array([0xc3, 0x28, 0xff, 0xfe, 0x80])],
      ["a byte order mark", new Uint8Array([0xef, 0xbb, 0xbf, 0x61])],
      ["the replacement character", Buffer.from("\ufffd")],
      ["zeros", new Uint8Array(5000)],
      ["a million bytes", Uint8Array.from({ length: 1_000_000 }, (_, i) => (i * 31 + (i >> 8)) & 0xff)]
    ]
    for (const [name, value] of values) {
      it.effect(`a value is the same bytes on both sides: ${name}`, () =>
        Effect.gen(function*() {
          const kv = yield* ours()
          const client = yield* go()
          const prefix = `bytes/${name}/`
          const watched = { ours: yield* seenByUs(kv, prefix), go: yield* seenByGo(client, prefix) }
          yield* kv.put(`${prefix}ours`, value)
          yield* client.put(`${prefix}go`, value)
          const theirs = Option.getOrThrow(yield* kv.getEntry(`${prefix}go`))
          assert.strictEqual(hex(theirs.value), hex(value))
          assert.strictEqual(hex((yield* client.get(`${prefix}ours`))!.value), hex(value))
          // As the condition of a transaction, and as what was there before.
          const mine = yield* kv.txn({
            if: [Compare.value(`${prefix}go`, "=", value)],
            then: [Op.put(`${prefix}go`, "", { previous: true })]
          })
          assert.isTrue(mine.succeeded)
          const previous = mine.succeeded ? mine.responses[0].previous : Option.none()
          assert.strictEqual(hex(Option.getOrThrow(previous).value), hex(value))
          const other = yield* client.txn({
            if: [{ target: "value", key: `${prefix}ours`, result: "=", value }],
            then: [{ kind: "put", key: `${prefix}ours`, value: "" }]
          })
          assert.isTrue(other.succeeded)
          assert.strictEqual(hex(other.results![0]!.previous!.value), hex(value))
          const changes = yield* watched.ours(other.revision)
          assert.deepStrictEqual(changes.map((change) => change.value), [hex(value), hex(value), "", ""])
          assert.deepStrictEqual(yield* watched.go(other.revision), changes)
        }))
    }

    it.effect("keys of any Unicode are the same on both sides, in the same order", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const client = yield* go()
        const keys = ["\0", " ", "/", "A", "é", "\ufeff", "\ufffd", "漢", "\uffff", "😀", "z\0z"].map((key) =>
          `keys/${key}`
        )
        for (const [i, key] of keys.entries()) yield* i % 2 === 0 ? kv.put(key, "") : client.put(key, "")
        const mine = (yield* kv.range(KeyRange.prefix("keys/"))).entries.map(({ key }) => key)
        assert.deepStrictEqual(mine.toSorted(), keys.toSorted())
        assert.deepStrictEqual((yield* client.range("keys/")).entries!.map(({ key }) => key), mine)
        assert.deepStrictEqual(mine.toSorted(KeyRange.compareKeys), mine)
      }))

    it.effect("a key of Go's that is not UTF-8 fails a range and a watch that meet it, and is never named wrongly", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const client = yield* go()
        const subscription = yield* kv.subscribe(KeyRange.prefix("not-utf8/"))
        yield* client.put(Buffer.concat([Buffer.from("not-utf8/"), Buffer.from([0xff])]), "1")
        yield* client.put("not-utf8/\ufffd", "2")
        for (
          const failing of [
            kv.range(KeyRange.prefix("not-utf8/")),
            Stream.runDrain(kv.rangeStream(KeyRange.prefix("not-utf8/"))),
            Stream.runDrain(subscription.revisions)
          ] as ReadonlyArray<Effect.Effect<unknown, KvError.KvError>>
        ) {
          const { message, reason } = yield* Effect.flip(failing)
          assert.strictEqual(reason._tag, "InvalidRequest")
          assert.include(message, "0x6e6f742d757466382fff")
        }
        assert.deepStrictEqual(yield* kv.get("not-utf8/\ufffd"), Option.some("2"))
        assert.strictEqual(yield* kv.count(KeyRange.prefix("not-utf8/")), 2)
      }))

    it.effect("an entry has the same revisions, version and lease on both sides, and so have conditions on them", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const client = yield* go()
        const lease = yield* backendOf(kv).leaseGrant({ ttl: "60 seconds" })
        const created = yield* client.put("entry", "1")
        const updated = yield* kv.put("entry", "2", { lease: lease.id })
        const mine = Option.getOrThrow(yield* kv.getEntry("entry"))
        const expected = {
          key: "entry",
          createRevision: created.revision,
          modRevision: updated.revision,
          version: 2,
          lease: lease.id
        }
        const { value, ...theirs } = (yield* client.get("entry"))!
        assert.deepStrictEqual(theirs, expected)
        assert.deepStrictEqual({
          key: mine.key,
          createRevision: mine.createRevision,
          modRevision: mine.modRevision,
          version: mine.version,
          lease: Option.getOrThrow(mine.lease)
        }, expected)
        assert.strictEqual(hex(value), text("2"))
        const conditions = [
          Compare.createRevision("entry", "=", expected.createRevision),
          Compare.modRevision("entry", "=", expected.modRevision),
          Compare.version("entry", "=", expected.version),
          Compare.lease("entry", "=", expected.lease),
          Compare.missing("entry/none")
        ]
        assert.isTrue((yield* kv.txn({ if: conditions, then: [Op.get("entry")] })).succeeded)
        const txn = yield* client.txn({
          if: [
            { target: "create", key: "entry", result: "=", number: expected.createRevision },
            { target: "mod", key: "entry", result: "=", number: expected.modRevision },
            { target: "version", key: "entry", result: "=", number: 2n },
            { target: "lease", key: "entry", result: "=", number: expected.lease },
            { target: "create", key: "entry/none", result: "=", number: 0n }
          ],
          then: [{ kind: "get", key: "entry" }]
        })
        assert.isTrue(txn.succeeded)
        // Go's write between our read and our compare-and-set is found.
        yield* client.put("entry", "3")
        assert.deepStrictEqual(yield* kv.compareAndSet("entry", expected.modRevision, "stale"), Option.none())
      }))
  })

  describe("leases", () => {
    it.effect("Go attaches a key to our lease, renews it, and sees both keys; our revocation deletes both in one revision", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const client = yield* go()
        const watched = yield* seenByGo(client, "our-lease/")
        const { id, ttl } = yield* backendOf(kv).leaseGrant({ ttl: "60 seconds" })
        yield* kv.put("our-lease/ours", "1", { lease: id })
        yield* client.put("our-lease/go", "2", id)
        assert.deepStrictEqual(yield* client.keepAliveOnce(id), { lease: id, ttl: Duration.toSeconds(ttl) })
        const status = yield* client.timeToLive(id)
        assert.deepStrictEqual([status.granted, status.keys?.toSorted()], [60, ["our-lease/go", "our-lease/ours"]])
        yield* backendOf(kv).leaseRevoke(id)
        const changes = yield* watched((yield* kv.put("our-lease/end", "")).revision)
        const deletes = changes.filter(({ type }) => type === "delete")
        assert.deepStrictEqual(deletes.map(({ key }) => key).toSorted(), ["our-lease/go", "our-lease/ours"])
        assert.strictEqual(deletes[0]!.revision, deletes[1]!.revision)
        assert.strictEqual((yield* client.timeToLive(id)).ttl, -1)
        assert.match((yield* Effect.flip(client.put("our-lease/late", "", id))).message, /requested lease not found/)
      }))

    it.effect("we attach a key to Go's lease, renew it, and see both keys; Go's revocation deletes both", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const client = yield* go()
        const watched = yield* seenByUs(kv, "their-lease/")
        const { lease } = yield* client.grant(60)
        yield* client.put("their-lease/go", "1", lease)
        yield* kv.put("their-lease/ours", "2", { lease })
        assert.strictEqual(Duration.toSeconds((yield* backendOf(kv).leaseKeepAlive(lease)).ttl), 60)
        const status = yield* backendOf(kv).leaseTimeToLive(lease, { keys: true })
        assert.deepStrictEqual(status.keys.toSorted(), ["their-lease/go", "their-lease/ours"])
        yield* client.revoke(lease)
        const changes = yield* watched((yield* kv.put("their-lease/end", "")).revision)
        const deletes = changes.filter(({ type }) => type === "delete")
        assert.deepStrictEqual(deletes.map(({ key }) => key).toSorted(), ["their-lease/go", "their-lease/ours"])
        assert.strictEqual(deletes[0]!.revision, deletes[1]!.revision)
        const reason = yield* Effect.flip(kv.put("their-lease/late", "", { lease }))
        assert.strictEqual(reason.reason._tag, "LeaseNotFound")
      }))

    it.effect("the largest lease id that there is keeps its digits on both sides", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const client = yield* go()
        const id = 2n ** 63n - 1n
        yield* backendOf(kv).leaseGrant({ ttl: "60 seconds", id })
        yield* client.put("large-id", "", id)
        assert.deepStrictEqual(Option.getOrThrow(yield* kv.getEntry("large-id")).lease, Option.some(id))
        assert.strictEqual((yield* client.get("large-id"))!.lease, id)
        yield* client.revoke(id)
        assert.deepStrictEqual(yield* kv.get("large-id"), Option.none())
      }))

    it.effect("a Go session on our lease keeps it alive, and ends when we revoke it", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const client = yield* go()
        const { id } = yield* backendOf(kv).leaseGrant({ ttl: "2 seconds" })
        const session = yield* client.session({ ttl: 2, lease: id })
        assert.strictEqual(session.lease, id)
        yield* kv.put("session-lease", "1", { lease: id })
        yield* Effect.sleep("4 seconds")
        assert.deepStrictEqual(yield* kv.get("session-lease"), Option.some("1"), "Go has renewed it")
        yield* backendOf(kv).leaseRevoke(id)
        yield* session.done
      }))

    it.effect("a temporary key of ours does not overwrite a key of a Go session, and takes its place when that is closed", () =>
      Effect.gen(function*() {
        const kv = yield* ours()
        const client = yield* go()
        const session = yield* client.session({ ttl: 60 })
        yield* client.put("temporary", "Go's", session.lease)
        const taken = yield* Effect.flip(on(kv)(TempKey.make("temporary", { value: "ours" })))
        assert.strictEqual(taken._tag, "TempKeyTaken")
        assert.deepStrictEqual(taken._tag === "TempKeyTaken" ? taken.lease : undefined, Option.some(session.lease))
        yield* Effect.forkScoped(on(kv)(TempKey.make("temporary", { value: "ours", onTaken: "wait" })))
        yield* session.close
        yield* until("ours is there", Effect.map(client.get("temporary"), (entry) => entry?.value.length === 4))
        assert.strictEqual(hex((yield* client.get("temporary"))!.value), text("ours"))
      }))
  })
})
