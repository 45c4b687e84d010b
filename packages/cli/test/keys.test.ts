/**
 * The commands for keys: `get`, `put`, `delete`, `ls`, `watch` and `txn`.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as Lease from "@effect-kv/core/Lease"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { json as parsed, Output } from "./support/inProcess.ts"
import { effectKv, json, layer as server } from "./support/store.ts"

const binary = new Uint8Array([0, 0xff, 0x0a, 0x80, 0x0d])

layer(server, { excludeTestServices: true, timeout: "60 seconds" })("keys", (it) => {
  it.effect("put writes an argument or standard input, and get prints it byte for byte", () =>
    Effect.gen(function*() {
      const put = yield* effectKv(["put", "kv/text", "Grüße"])
      assert.match(put.out, /^revision \d+\n$/)
      assert.deepStrictEqual((yield* effectKv(["get", "kv/text"])).bytes, new TextEncoder().encode("Grüße"))
      for (const args of [["put", "kv/binary"], ["put", "kv/binary", "-"]]) {
        assert.strictEqual((yield* effectKv(args, { stdin: binary })).code, 0)
        assert.deepStrictEqual((yield* effectKv(["get", "kv/binary"])).bytes, binary)
      }
      assert.strictEqual((yield* effectKv(["put", "kv/empty", ""])).code, 0)
      const empty = yield* effectKv(["get", "kv/empty"])
      assert.deepStrictEqual([empty.code, empty.out], [0, ""])
    }))

  it.effect("With --base64 put and get use base64 values", () =>
    Effect.gen(function*() {
      const base64 = Buffer.from(binary).toString("base64")
      assert.strictEqual((yield* effectKv(["put", "kv/base64", base64, "--base64"])).code, 0)
      assert.deepStrictEqual((yield* effectKv(["get", "kv/base64"])).bytes, binary)
      assert.strictEqual((yield* effectKv(["get", "kv/base64", "--base64"])).out, `${base64}\n`)
      const wrong = yield* effectKv(["put", "kv/base64", "h!nter2", "--base64"])
      assert.strictEqual(wrong.code, 65)
      assert.notInclude(wrong.err, "h!nter2")
    }))

  it.effect("get --json has the revisions, and base64 for a value that is not text", () =>
    Effect.gen(function*() {
      const kv = yield* Kv.Kv
      const { revision } = yield* kv.put("kv/json", "1")
      assert.deepStrictEqual(yield* json(["get", "kv/json"]), {
        key: "kv/json",
        value: "1",
        createRevision: `${revision}`,
        modRevision: `${revision}`,
        version: 1,
        lease: null
      })
      yield* kv.put("kv/json", binary)
      assert.strictEqual((yield* json(["get", "kv/json"])).base64, Buffer.from(binary).toString("base64"))
      assert.strictEqual((yield* json(["get", "kv/json", "--revision", `${revision}`])).value, "1")
    }))

  it.effect("get of a missing key exits with 1", () =>
    Effect.gen(function*() {
      const { code, err, out } = yield* effectKv(["get", "kv/missing"])
      assert.deepStrictEqual([code, out], [1, ""])
      assert.include(err, `"kv/missing" does not exist`)
    }))

  it.effect("put --if-revision writes only at that revision, and 0 stands for a missing key", () =>
    Effect.gen(function*() {
      const first = yield* json(["put", "kv/cas", "1", "--if-revision", "0"])
      const again = yield* effectKv(["put", "kv/cas", "2", "--if-revision", "0"])
      assert.deepStrictEqual([again.code, again.out], [
        1,
        `not written: the key was last written at revision ${first.revision}\n`
      ])
      assert.strictEqual((yield* effectKv(["put", "kv/cas", "3", "--if-revision", first.revision])).code, 0)
      assert.strictEqual((yield* effectKv(["get", "kv/cas"])).out, "3")
    }))

  it.effect("put --lease attaches the key to a lease", () =>
    Effect.gen(function*() {
      const kv = yield* Kv.Kv
      const { id } = yield* Lease.grant({ ttl: "60 seconds" })
      assert.strictEqual((yield* effectKv(["put", "kv/leased", "1", "--lease", id.toString(16)])).code, 0)
      assert.deepStrictEqual(Option.getOrThrow(yield* kv.getEntry("kv/leased")).lease, Option.some(id))
      assert.strictEqual((yield* effectKv(["put", "kv/leased", "1", "--lease", "7"])).code, 1)
    }))

  it.effect("delete of one key does not ask; of a range it needs --yes if there is no terminal", () =>
    Effect.gen(function*() {
      const kv = yield* Kv.Kv
      for (const key of ["del/a", "del/b", "del/c"]) yield* kv.put(key, "1")
      assert.strictEqual((yield* effectKv(["delete", "del/a"])).out, "deleted 1 key\n")
      assert.strictEqual((yield* effectKv(["delete", "del/a"])).out, "deleted 0 keys\n")
      const refused = yield* effectKv(["delete", "del/", "--under"])
      assert.strictEqual(refused.code, 64)
      assert.include(refused.err, `deleting 2 keys under "del/" needs --yes`)
      const confined = yield* effectKv(["delete", "", "--under", "--prefix", "del/"])
      assert.include(confined.err, `deleting 2 keys under "del/" needs --yes`)
      assert.strictEqual(yield* kv.count(KeyRange.prefix("del/")), 2)
      assert.strictEqual((yield* json(["delete", "del/", "--under", "--yes"])).deleted, 2)
      assert.strictEqual(yield* kv.count(KeyRange.prefix("del/")), 0)
    }))

  it.effect("ls lists keys in order, escapes control characters, and stops at the limit", () =>
    Effect.gen(function*() {
      const kv = yield* Kv.Kv
      const { id } = yield* Lease.grant({ ttl: "60 seconds" })
      for (const key of ["list/a", "list/b\n", "list/c"]) yield* kv.put(key, "123", { lease: id })
      assert.strictEqual((yield* effectKv(["ls", "list/"])).out, "list/a\nlist/b\\n\nlist/c\n")
      assert.strictEqual((yield* effectKv(["ls", "list/", "--limit", "1"])).out, "list/a\n")
      const lines = (yield* effectKv(["ls", "list/", "-l", "--json"])).out.trimEnd().split("\n").map((line) =>
        JSON.parse(line)
      )
      assert.deepStrictEqual(lines.map(({ key }) => key), ["list/a", "list/b\n", "list/c"])
      assert.deepInclude(lines[0], { lease: id.toString(16), size: 3, version: 1 })
    }))

  it.effect("watch prints each change from a revision on, and ends after --count", () =>
    Effect.gen(function*() {
      const kv = yield* Kv.Kv
      const { revision } = yield* kv.put("watch/a", "1")
      yield* kv.put("watch/b", binary)
      yield* kv.delete("watch/a")
      const from = ["--from", `${revision}`]
      const { out } = yield* effectKv(["watch", "watch/", "--under", "--count", "3", ...from])
      assert.deepStrictEqual(out.trimEnd().split("\n").map((line) => line.replace(/^\d+ /, "")), [
        "put watch/a 1",
        "put watch/b (5 bytes)",
        "delete watch/a"
      ])
      const one = yield* json(["watch", "watch/a", "--count", "1", ...from])
      assert.deepInclude(one, { type: "put", revision: `${revision}`, isCreate: true, key: "watch/a", value: "1" })
    }))

  it.effect("watch waits for future changes", () =>
    Effect.gen(function*() {
      const kv = yield* Kv.Kv
      const output = new Output()
      const watching = yield* Effect.forkScoped(effectKv(["watch", "later", "--count", "1", "--json"], {}, output))
      yield* Effect.callback<void>((resume) => {
        output.onChange = () => {
          if (output.err.includes("watching from revision")) resume(Effect.void)
        }
        output.onChange()
      })
      yield* kv.put("later", "now")
      assert.strictEqual(parsed(yield* Fiber.join(watching)).value, "now")
    }))

  it.effect("txn executes JSON from standard input, and exits with 1 if a condition does not hold", () =>
    Effect.gen(function*() {
      const text = JSON.stringify({
        if: [{ missing: "txn/owner" }],
        then: [{ put: "txn/owner", value: "me" }, { put: "txn/logo", base64: "/w==" }, { get: { prefix: "txn/" } }],
        else: [{ get: "txn/owner" }]
      })
      const first = yield* effectKv(["txn"], { stdin: text })
      assert.strictEqual(first.code, 0)
      const { responses, revision, succeeded } = parsed(first)
      assert.isTrue(succeeded)
      assert.deepStrictEqual(responses[0], { type: "put", revision })
      assert.deepStrictEqual(
        responses[2].entries.map((entry: { readonly value?: string; readonly base64?: string }) =>
          entry.value ?? entry.base64
        ),
        ["/w==", "me"]
      )
      const second = yield* effectKv(["txn"], { stdin: text })
      assert.strictEqual(second.code, 1)
      assert.strictEqual(parsed(second).responses[0].entries[0].value, "me")
      const compared = { key: "txn/owner", value: "you", is: "!=" }
      const nested = { if: [compared], then: [{ txn: { then: [{ delete: "txn/owner" }] } }] }
      const third = parsed(yield* effectKv(["txn"], { stdin: JSON.stringify(nested) }))
      assert.strictEqual(third.responses[0].responses[0].deleted, 1)
    }))

  it.effect("txn that deletes a range needs --yes", () =>
    Effect.gen(function*() {
      const kv = yield* Kv.Kv
      yield* kv.put("range/a", "1")
      const text = JSON.stringify({ then: [{ txn: { else: [], then: [{ delete: { prefix: "range/" } }] } }] })
      const refused = yield* effectKv(["txn"], { stdin: text })
      assert.strictEqual(refused.code, 64)
      assert.include(refused.err, `deleting all keys under "range/" needs --yes`)
      const confined = yield* effectKv(["txn", "--prefix", "app/"], { stdin: text })
      assert.include(confined.err, `deleting all keys under "app/range/" needs --yes`)
      assert.strictEqual((yield* effectKv(["txn", "--yes"], { stdin: text })).code, 0)
      assert.deepStrictEqual(yield* kv.get("range/a"), Option.none())
    }))

  const wrong: ReadonlyArray<readonly [text: string, message: string]> = [
    ["{", "the transaction is not JSON"],
    [`{"iff":[]}`, `"iff" is unknown here; use if, then, else`],
    [`{"then":{}}`, "then: must be a list"],
    [`{"then":[{"put":"a"}]}`, "then[0]: a put needs one of value and base64"],
    [`{"then":[{"put":"a","value":7}]}`, "then[0].value: must be a text"],
    [`{"then":[{"put":"a","value":"s3cr3t","ttl":7}]}`, `then[0]: "ttl" is unknown here`],
    [`{"then":[{"delete":""}]}`, "then[0].delete: must be a key"],
    [`{"then":[{"drop":"a"}]}`, `then[0]: use {"put"`],
    [`{"if":[{"key":"a","value":"s3cr3t","version":1}]}`, `if[0]: use {"missing"`],
    [`{"if":[{"key":"a","value":"s3cr3t","is":"~"}]}`, `if[0].is: must be "="`],
    [`{"if":[{"key":"a","modRevision":1.5}]}`, "if[0].modRevision: must be a whole number"],
    [`{"else":[{"txn":{"then":[{"get":{}}]}}]}`, "else[0].txn.then[0].get.prefix: must be a text"]
  ]
  it.effect("An error in a transaction has its position, and repeats no value", () =>
    Effect.gen(function*() {
      for (const [text, message] of wrong) {
        const { code, err } = yield* effectKv(["txn"], { stdin: text })
        assert.strictEqual(code, 65, text)
        assert.include(err, message)
        assert.notInclude(err, "s3cr3t")
      }
    }))

  it.effect("A revision that is not a number is a usage error", () =>
    Effect.gen(function*() {
      const { code, err } = yield* effectKv(["get", "kv/text", "--revision", "x"])
      assert.strictEqual(code, 64)
      assert.match(err, /--revision: "[^"]*"\. Expected: a whole number such as 1042\n/)
    }))
})
