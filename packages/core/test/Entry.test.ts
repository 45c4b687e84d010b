import * as Entry from "@effect-kv/core/Entry"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Formatter from "effect/Formatter"
import * as Option from "effect/Option"
import * as Inspect from "node:util"
import { text } from "./arbitraries.ts"

const make = (value: Entry.Value, lease = 0n) =>
  Entry.make({ key: "k", value, createRevision: 2n, modRevision: 2n ** 60n, version: 3, lease: Entry.leaseOf(lease) })

describe("Entry", () => {
  it.prop("gives the same text and bytes whether it was made from text or from bytes", [text], ([text]) => {
    const bytes = new TextEncoder().encode(text)
    for (const entry of [make(text), make(bytes)]) {
      assert.deepStrictEqual(entry.value, bytes)
      assert.strictEqual(entry.lossyText, text)
      assert.strictEqual(Effect.runSync(entry.text), text)
      assert.strictEqual(entry.size, bytes.length)
    }
  })

  it("fails with InvalidRequest as text if its bytes are not UTF-8, and replaces them in lossy text", () => {
    const entry = make(Uint8Array.of(0x61, 0xff))
    const error = Effect.runSync(Effect.flip(entry.text))
    assert.deepStrictEqual([error.reason._tag, error.key], ["InvalidRequest", "k"])
    assert.deepStrictEqual([entry.lossyText, entry.size], ["a\ufffd", 2])
  })

  it("has no lease if the lease id is 0", () => {
    assert.deepStrictEqual(make("v").lease, Option.none())
    assert.deepStrictEqual(make("v", 7n).lease, Option.some(7n))
  })

  it("returns a copy of its bytes", () => {
    const raw = Uint8Array.of(1, 2, 3)
    const entry = make(raw)
    entry.value.fill(9)
    assert.deepStrictEqual(raw, Uint8Array.of(1, 2, 3))
  })

  it("keeps its fields under another key", () => {
    const entry = make("v", 7n).withKey("other")
    assert.deepStrictEqual(
      [entry.key, entry.lossyText, entry.createRevision, entry.modRevision, entry.version, entry.lease],
      ["other", "v", 2n, 2n ** 60n, 3, Option.some(7n)]
    )
    assert.deepStrictEqual(make(Uint8Array.of(0xff)).withKey("other").value, Uint8Array.of(0xff))
  })

  it("never shows its value, however it is printed", () => {
    const secret = "s3cr3t-value"
    for (const entry of [make(secret, 0xabcn), make(new TextEncoder().encode(secret), 0xabcn)]) {
      // An entry caches its value when it is read, which must not make the value visible.
      for (const read of [() => entry, () => (entry.value, entry), () => (entry.lossyText, entry)]) {
        const thing = read()
        const printings = [
          Inspect.inspect(thing),
          Inspect.inspect({ thing, list: [thing] }, { depth: 9, showHidden: true, getters: false }),
          Inspect.format("%s %o %O %j", thing, thing, thing, thing),
          JSON.stringify(thing),
          String(thing),
          `${thing}`,
          Formatter.format(thing),
          Formatter.format([thing])
        ]
        for (const printed of printings) {
          assert.notInclude(printed, secret)
          assert.notMatch(printed, /115,\s*51/)
        }
        assert.include(printings[0]!, "12 bytes")
        assert.include(printings[0]!, `${0xabc}`)
      }
    }
  })
})
