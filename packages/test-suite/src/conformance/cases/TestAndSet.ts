/**
 * Test-and-set: on a value, on a revision, and retried until it succeeds.
 */
import type { Value } from "@effect-kv/core/Entry"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as TempKey from "@effect-kv/core/TempKey"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { chapter, newClient, promptly, rejects, revisionOf, test } from "./Case.ts"
import { entryOf, putInLoops, textOf } from "./entries.ts"
import { on } from "./locking.ts"

const increment = (current: Option.Option<string>): string => `${Number(Option.getOrElse(current, () => "0")) + 1}`

export const cases = chapter("test-and-set", [
  test("testAndSet returns true exactly if it wrote", function*(kv) {
    type Row = readonly [stored: Value | undefined, expected: Value | undefined, wrote: boolean]
    const table: ReadonlyArray<Row> = [
      [undefined, undefined, true],
      [undefined, "", false],
      [undefined, "v", false],
      ["v", undefined, false],
      ["v", "v", true],
      ["v", new TextEncoder().encode("v"), true],
      ["v", "w", false],
      ["v", "", false],
      ["v", "vv", false],
      ["", undefined, false],
      ["", "", true],
      ["", "v", false],
      [Uint8Array.of(0, 255), Uint8Array.of(0, 255), true],
      [Uint8Array.of(0, 255), Uint8Array.of(0, 254), false],
      ["\u00e9", "e\u0301", false]
    ]
    for (const [stored, expected, wrote] of table) {
      yield* kv.delete("k")
      if (stored !== undefined) yield* kv.put("k", stored)
      const before = yield* revisionOf(kv)
      assert.strictEqual(yield* kv.testAndSet("k", Option.fromUndefinedOr(expected), "new"), wrote)
      assert.strictEqual(yield* revisionOf(kv), wrote ? before + 1n : before)
      if (wrote) assert.strictEqual(yield* textOf(kv, "k"), "new")
    }
  }),

  test("testAndSet treats a deleted key as missing", function*(kv) {
    yield* kv.put("k", "v")
    yield* kv.delete("k")
    assert.isFalse(yield* kv.testAndSet("k", Option.some("v"), "new"))
    assert.isTrue(yield* kv.testAndSet("k", Option.none(), "new"))
  }),

  test("of many testAndSet calls with the same expected value exactly one writes", function*(kv) {
    const clients = [kv, yield* newClient]
    for (const expected of [Option.none(), Option.some("0")]) {
      if (Option.isSome(expected)) yield* kv.put("k", expected.value)
      const wins = yield* Effect.forEach(
        Array.from({ length: 40 }, (_, i) => i),
        (i) => Effect.map(clients[i % 2]!.testAndSet("k", expected, `by ${i}`), (won) => won ? [`by ${i}`] : []),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(wins.flat(), [yield* textOf(kv, "k")])
    }
  }),

  test("compareAndSet writes only if the mod revision matches, and returns the new one", function*(kv) {
    assert.deepStrictEqual(yield* kv.compareAndSet("k", 1n, "no"), Option.none())
    const created = yield* kv.compareAndSet("k", 0n, "1")
    assert.deepStrictEqual(created, Option.some((yield* entryOf(kv, "k")).modRevision))
    assert.deepStrictEqual(yield* kv.compareAndSet("k", 0n, "no"), Option.none())
    const first = Option.getOrThrow(created)
    const second = Option.getOrThrow(yield* kv.compareAndSet("k", first, "2"))
    assert.isAbove(Number(second), Number(first))
    assert.deepStrictEqual(yield* kv.compareAndSet("k", first, "no"), Option.none())
    assert.deepStrictEqual(yield* kv.compareAndSet("k", second + 1n, "no"), Option.none())
    assert.strictEqual(yield* textOf(kv, "k"), "2")
    yield* kv.delete("k")
    assert.deepStrictEqual(yield* kv.compareAndSet("k", second, "no"), Option.none())
    assert.isTrue(Option.isSome(yield* kv.compareAndSet("k", 0n, "3")))
  }),

  test("compareAndSet does not write if the value was changed and changed back", function*(kv) {
    const { revision } = yield* kv.put("k", "v")
    yield* kv.put("k", "w")
    yield* kv.put("k", "v")
    assert.isTrue(yield* kv.testAndSet("k", Option.some("v"), "v"))
    assert.deepStrictEqual(yield* kv.compareAndSet("k", revision, "no"), Option.none())
  }),

  test("testAndSet and compareAndSet attach the given lease, or none", function*(kv) {
    const { id } = yield* backendOf(kv).leaseGrant({ ttl: "1 hour" })
    yield* kv.testAndSet("k", Option.none(), "1", { lease: id })
    assert.deepStrictEqual((yield* entryOf(kv, "k")).lease, Option.some(id))
    yield* kv.testAndSet("k", Option.some("1"), "2")
    assert.deepStrictEqual((yield* entryOf(kv, "k")).lease, Option.none())
    yield* kv.compareAndSet("k", (yield* entryOf(kv, "k")).modRevision, "3", { lease: id })
    assert.deepStrictEqual((yield* entryOf(kv, "k")).lease, Option.some(id))
    yield* backendOf(kv).leaseRevoke(id)
    yield* rejects(kv, "LeaseNotFound", kv.testAndSet("k", Option.none(), "4", { lease: id }))
    // If the condition does not hold, nothing is written and the lease is not checked.
    assert.isFalse(yield* kv.testAndSet("k", Option.some("x"), "4", { lease: id }))
  }),

  test("modify creates or changes a key, and returns the new value", function*(kv) {
    assert.strictEqual(yield* kv.modify("k", increment), "1")
    assert.strictEqual(yield* kv.modify("k", increment), "2")
    assert.strictEqual(yield* textOf(kv, "k"), "2")
    assert.strictEqual((yield* entryOf(kv, "k")).version, 2)
  }),

  test("modify keeps the lease of the key", function*(kv) {
    const { id } = yield* backendOf(kv).leaseGrant({ ttl: "1 hour" })
    yield* kv.put("k", "1", { lease: id })
    yield* kv.modify("k", increment)
    assert.deepStrictEqual((yield* entryOf(kv, "k")).lease, Option.some(id))
    yield* backendOf(kv).leaseRevoke(id)
    assert.strictEqual(yield* textOf(kv, "k"), undefined)
  }),

  test("modify retries with the value that another client wrote meanwhile", function*(kv) {
    const other = yield* newClient
    yield* kv.put("k", "a")
    const seen: Array<string> = []
    const writeInBetween = Effect.suspend(() => seen.length === 1 ? other.put("k", "b") : Effect.void)
    const meddled = Kv.mapBackend(kv, (backend) => ({
      ...backend,
      execute: (op) => Effect.andThen(op._tag === "Txn" ? writeInBetween : Effect.void, backend.execute(op))
    }))
    const result = yield* meddled.modify("k", (current) => {
      seen.push(Option.getOrElse(current, () => "none"))
      return `${seen.at(-1)}!`
    })
    assert.strictEqual(result, "b!")
    assert.deepStrictEqual(seen, ["a", "b"])
    assert.strictEqual(yield* textOf(kv, "k"), "b!")
  }),

  test("concurrent modify calls on one key of one client call their functions once each, in order", function*(kv) {
    yield* kv.put("app/k", "")
    const views = [kv, Kv.prefixed(kv, "app/"), Kv.prefixed(Kv.prefixed(kv, "a"), "pp/")] as const
    const keys = ["app/k", "k", "k"]
    const order: Array<number> = []
    yield* Effect.forEach(
      Array.from({ length: 120 }, (_, i) => i),
      (i) =>
        views[i % 3]!.modify(keys[i % 3]!, (current) => {
          order.push(i)
          return `${Option.getOrElse(current, () => "")}${i} `
        }),
      { concurrency: "unbounded" }
    )
    assert.deepStrictEqual(order, Array.from({ length: 120 }, (_, i) => i))
    assert.strictEqual(yield* textOf(kv, "app/k"), `${order.join(" ")} `)
    assert.strictEqual((yield* entryOf(kv, "app/k")).version, 121)
  }),

  test("a modify that is interrupted while it is queued does not block the ones after it", function*(kv) {
    const modify = kv.modify("k", increment)
    const fibers = yield* Effect.forEach(Array.from({ length: 30 }), () => Effect.forkChild(modify))
    yield* Effect.yieldNow
    const interrupted = fibers.filter((_, i) => i % 3 === 1)
    yield* Fiber.interruptAll(interrupted)
    const exits = yield* promptly("the others", Effect.forEach(fibers, Fiber.await))
    const succeeded = exits.filter(Exit.isSuccess).length
    assert.isAtLeast(succeeded, 20)
    // A modify that was interrupted in flight may have been applied.
    assert.isAtLeast(Number(yield* textOf(kv, "k")), succeeded)
    yield* promptly("one more", modify)
  }),

  test("a modify whose function throws does not block the next one", function*(kv) {
    const exits = yield* promptly(
      "all",
      Effect.forEach(
        Array.from({ length: 30 }, (_, i) => i),
        (i) =>
          Effect.exit(kv.modify("k", (current) => {
            if (i % 3 === 1) throw new Error("thrown")
            return increment(current)
          })),
        { concurrency: "unbounded" }
      )
    )
    assert.strictEqual(exits.filter(Exit.hasDies).length, 10)
    assert.strictEqual(yield* textOf(kv, "k"), "20")
  }),

  test("modifySome leaves the key as it is if its function declines", function*(kv) {
    const decrement = kv.modifySome(
      "k",
      (current) => Option.map(Option.filter(current, (n) => Number(n) > 0), (n) => `${Number(n) - 1}`)
    )
    assert.deepStrictEqual(yield* decrement, Option.none())
    assert.strictEqual(yield* textOf(kv, "k"), undefined)
    const { id } = yield* backendOf(kv).leaseGrant({ ttl: "1 hour" })
    yield* kv.put("k", "5", { lease: id })
    const results = yield* Effect.all(Array.from({ length: 8 }, () => decrement), { concurrency: "unbounded" })
    assert.deepStrictEqual(results, ["4", "3", "2", "1", "0"].map(Option.some).concat(Array(3).fill(Option.none())))
    const entry = yield* entryOf(kv, "k")
    assert.deepStrictEqual([entry.lossyText, entry.version, entry.lease], ["0", 6, Option.some(id)])
    yield* backendOf(kv).leaseRevoke(id)
  }),

  test(
    "modifySome declines only on the present text, not on what the previous call of the client wrote",
    function*(kv) {
      const other = yield* newClient
      const seen: Array<string> = []
      yield* kv.put("k", "a")
      // The second call is queued behind the first. Between them another client writes.
      const meddled = Kv.mapBackend(kv, (backend) => ({
        ...backend,
        execute: (op) =>
          Effect.yieldNow.pipe(
            Effect.andThen(backend.execute(op)),
            Effect.tap(() => op._tag === "Txn" ? other.put("k", "c") : Effect.void)
          )
      }))
      const calls = [
        meddled.modifySome("k", () => Option.some("b")),
        meddled.modifySome("k", (current) => {
          seen.push(Option.getOrElse(current, () => "none"))
          return Option.contains(current, "b") ? Option.none() : Option.some("d")
        })
      ]
      const [, result] = yield* Effect.all(calls, { concurrency: "unbounded" })
      assert.deepStrictEqual(result, Option.some("d"))
      assert.deepStrictEqual(seen, ["b", "c"])
    }
  ),

  test("a put can keep the lease of its key", function*(kv) {
    yield* kv.put("k", "1", { lease: "keep" })
    assert.deepStrictEqual((yield* entryOf(kv, "k")).lease, Option.none())
    const { id } = yield* backendOf(kv).leaseGrant({ ttl: "1 hour" })
    yield* kv.put("k", "2", { lease: id })
    const { previous, revision } = yield* kv.put("k", "3", { lease: "keep", previous: true })
    assert.deepStrictEqual(Option.map(previous, ({ lossyText }) => lossyText), Option.some("2"))
    const entry = yield* entryOf(kv, "k")
    assert.deepStrictEqual([entry.lossyText, entry.modRevision, entry.lease], ["3", revision, Option.some(id)])
    yield* on(kv)(TempKey.withTempKey(kv.put("t", "mine", { lease: "keep" }), "t"))
    yield* backendOf(kv).leaseRevoke(id)
    assert.strictEqual(yield* textOf(kv, "k"), undefined)
  }),

  test("modify succeeds while other fibers of its client put the key in a loop, and they continue", function*(kv) {
    const allHavePut = yield* putInLoops(kv, "k")
    for (let i = 0; i < 3; i++) {
      yield* allHavePut
      const text = yield* promptly("modify", kv.modify("k", (current) => `modified ${Option.getOrThrow(current)}`))
      assert.match(text, /^modified \d$/)
    }
    yield* allHavePut
  }),

  test("concurrent modify calls of several fibers and clients lose no update", function*(kv) {
    const clients = [kv, yield* newClient, yield* newClient]
    yield* Effect.forEach(
      Array.from({ length: 30 }, (_, i) => i),
      (i) => Effect.repeat(clients[i % 3]!.modify("k", increment), { times: 3 }),
      { concurrency: "unbounded" }
    )
    assert.strictEqual(yield* textOf(kv, "k"), "120")
    assert.strictEqual((yield* entryOf(kv, "k")).version, 120)
  })
])
