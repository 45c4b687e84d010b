/**
 * Text for a terminal: cells, tables and times.
 */
import type * as Inventory from "@effect-kv/core/Inventory"
import { assert, describe, it } from "@effect/vitest"
import * as Option from "effect/Option"
import { displayWidth, printable, truncate } from "../src/inspect/cells.ts"
import * as table from "../src/inspect/table.ts"
import { ago, duration, Observed, timeIn } from "../src/inspect/times.ts"

describe("cells", () => {
  it("Control characters, line ends and marks of direction are escaped, other text is kept", () => {
    assert.strictEqual(printable("a\x1b[2Jb\n\tc\u202ed\u2028"), "a\\u001b[2Jb\\n\\tc\\u202ed\\u2028")
    assert.strictEqual(printable("Grüße 世界 👩‍👩‍👧"), "Grüße 世界 👩‍👩‍👧")
  })

  it("A text that is too wide ends with an ellipsis, and wide characters count twice", () => {
    assert.strictEqual(truncate("nightly", 7), "nightly")
    assert.strictEqual(truncate("nightly", 5), "nigh…")
    assert.strictEqual(truncate("世界世界", 5), "世界…")
    assert.isAtMost(displayWidth(truncate("世界世界", 4)), 4)
    assert.strictEqual(truncate("nightly", 1), "…")
    assert.strictEqual(truncate("nightly", 0), "")
  })
})

describe("tables", () => {
  const columns: ReadonlyArray<table.Column> = [
    { title: "NAME", isLong: true },
    { title: "KIND", dropped: 1 },
    { title: "TOKEN" },
    { title: "TEXT", isLong: true, dropped: 0 }
  ]
  const rows = [["jobs/nightly", "lock", "1042", "worker a on host-7"], ["x", "lock", "7", ""]]

  it("Without a width nothing is cut", () => {
    assert.deepStrictEqual(table.lines(columns, rows, undefined), [
      "NAME          KIND  TOKEN  TEXT",
      "jobs/nightly  lock  1042   worker a on host-7",
      "x             lock  7"
    ])
  })

  it("On a narrow terminal long texts are cut, then columns disappear in their order, and no line is too wide", () => {
    assert.deepStrictEqual(table.lines(columns, rows, 40), [
      "NAME          KIND  TOKEN  TEXT",
      "jobs/nightly  lock  1042   worker a on …",
      "x             lock  7"
    ])
    assert.strictEqual(table.lines(columns, rows, 36)[1], "jobs/nigh…  lock  1042   worker a o…")
    assert.deepStrictEqual(table.lines(columns, rows, 32)[0], "NAME         TOKEN  TEXT")
    assert.deepStrictEqual(table.lines(columns, rows, 20), [
      "NAME          TOKEN",
      "jobs/nightly  1042",
      "x             7"
    ])
    for (let width = 1; width < 60; width++) {
      for (const line of table.lines(columns, rows, width)) assert.isAtMost(displayWidth(line), width)
    }
  })
})

describe("times", () => {
  it("A duration has its two largest units", () => {
    const texts = [999, 59_000, 133_000, 11_100_000, 187_200_000].map(duration)
    assert.deepStrictEqual(texts, ["0s", "59s", "2m 13s", "3h 5m", "2d 4h"])
  })

  it("A time is found in a description if it has a time zone", () => {
    const millis = Date.UTC(2026, 10, 29, 8, 30)
    assert.deepStrictEqual(timeIn("backup since 2026-11-29T08:30Z, pid 7"), { millis, isAtLeast: false })
    assert.deepStrictEqual(timeIn("2026-11-29T09:30:00.000+01:00"), { millis, isAtLeast: false })
    assert.isUndefined(timeIn("2026-11-29T08:30:00"))
    assert.isUndefined(timeIn("2026-13-29T08:30Z"))
    assert.strictEqual(ago(undefined, 0), "-")
  })

  const contender = (token: bigint, isHolder: boolean, description = ""): Inventory.Contender => ({
    key: `nightly/${token}`,
    token,
    lease: Option.none(),
    description,
    isHolder,
    mode: "Write",
    permits: 1,
    revision: token
  })
  const queue = (...contenders: ReadonlyArray<Inventory.Contender>): ReadonlyArray<Inventory.Queue> => [
    { kind: "Lock", name: "nightly", permits: Option.none(), contenders }
  ]

  it("With --watch it is known when a contender began to hold or wait, and of earlier ones for how long at least", () => {
    const observed = new Observed()
    observed.note(queue(contender(1n, true)), 1000)
    observed.note(queue(contender(1n, true), contender(2n, false)), 5000)
    assert.strictEqual(ago(observed.since(contender(1n, true)), 9000), ">8s")
    assert.strictEqual(ago(observed.since(contender(2n, false)), 9000), "4s")
    observed.note(queue(contender(2n, true)), 10_000)
    assert.strictEqual(ago(observed.since(contender(2n, true)), 12_000), "2s")
    assert.isUndefined(observed.since(contender(1n, true)))
  })

  it("A time in the description of an earlier contender is better than none", () => {
    const observed = new Observed()
    const earlier = contender(1n, true, "since 1970-01-01T00:00:01Z")
    observed.note(queue(earlier), 5000)
    assert.strictEqual(ago(observed.since(earlier), 9000), "8s")
  })
})
