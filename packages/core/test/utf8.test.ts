import { assert, describe, it } from "@effect/vitest"
import * as Buffer from "node:buffer"
import * as utf8 from "../src/internal/values/utf8.ts"
import { brokenText, text } from "./arbitraries.ts"

const bytesOf = (text: string) => Buffer.Buffer.from(text, "utf8")

describe("utf8", () => {
  it.prop("compare orders well-formed strings by their bytes", [text, text], ([a, b]) => {
    assert.strictEqual(utf8.compare(a, b), bytesOf(a).compare(bytesOf(b)))
  }, { arbitrary: { runs: 2000 } })

  it("compare orders the code points at which encodings change by their bytes", () => {
    const points = [0, 0x7f, 0x80, 0x7ff, 0x800, 0xd7ff, 0xe000, 0xfffd, 0xffff, 0x10000, 0x1f600, 0x10ffff]
    const strings = points.flatMap((
      a
    ) => [String.fromCodePoint(a), `x${String.fromCodePoint(a)}`, String.fromCodePoint(a, a)])
    for (const a of strings) {
      for (const b of strings) assert.strictEqual(utf8.compare(a, b), bytesOf(a).compare(bytesOf(b)))
    }
  })

  it.prop("maxBytes is an upper bound of a text's bytes", [text], ([a]) => {
    assert.isAtMost(utf8.byteLength(a), utf8.maxBytes(a))
    assert.strictEqual(utf8.maxBytes(utf8.encode(a)), utf8.byteLength(a))
  })

  it.prop("byteLength is the number of encoded bytes", [text], ([a]) => {
    assert.strictEqual(utf8.byteLength(a), bytesOf(a).length)
  })

  it.prop("decoding restores the encoded text, including a byte order mark", [text], ([a]) => {
    assert.strictEqual(utf8.decodeStrict(utf8.encode(`\ufeff${a}`)), `\ufeff${a}`)
    assert.strictEqual(utf8.decodeLenient(utf8.encode(`\ufeff${a}`)), `\ufeff${a}`)
  })

  it.prop("a text with a lone surrogate does not survive its encoding", [brokenText], ([a]) => {
    assert.strictEqual(utf8.decodeStrict(utf8.encode(a)) === a, a.isWellFormed())
  })

  it("decodeStrict returns undefined for bytes that are not UTF-8", () => {
    for (const bytes of [[0xff], [0x61, 0x80], [0xc3], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xc0, 0x80]]) {
      assert.strictEqual(utf8.decodeStrict(Uint8Array.from(bytes)), undefined)
    }
    assert.strictEqual(utf8.decodeLenient(Uint8Array.of(0x61, 0xff)), "a\ufffd")
  })
})
