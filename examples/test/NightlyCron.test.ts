/**
 * One report for each tick, whichever instance makes it, and one migration at all.
 */
import { KeyRange, Kv, RunOnce } from "@effect-kv/core"
import { MemoryLayer } from "@effect-kv/memory"
import { assert, it } from "@effect/vitest"
import * as Cron from "effect/Cron"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as TestClock from "effect/testing/TestClock"
import { migrate, reports } from "../src/NightlyCron.ts"

it.effect("of many instances one makes the report of each night", () =>
  Effect.gen(function*() {
    const kv = yield* Kv.Kv
    const nightly = Cron.parseUnsafe("0 3 * * *", "UTC")
    for (const instance of ["ada", "bert", "cleo"]) yield* Effect.forkScoped(reports(instance, nightly))
    while (Option.isNone(yield* RunOnce.status("report"))) yield* Effect.yieldNow
    yield* TestClock.adjust("72 hours")
    const { entries } = yield* kv.range(KeyRange.prefix("reports/"))
    assert.deepStrictEqual(entries.map(({ key, version }) => `${key} ${version}`), [
      "reports/1970-01-01T03:00:00.000Z 1",
      "reports/1970-01-02T03:00:00.000Z 1",
      "reports/1970-01-03T03:00:00.000Z 1"
    ])
  }).pipe(Effect.scoped, Effect.provide(MemoryLayer.layer)))

it.effect("of many instances one runs the migration, and none runs it later", () =>
  Effect.gen(function*() {
    const all = yield* Effect.all([migrate, migrate, migrate], { concurrency: "unbounded" })
    assert.strictEqual(all.filter(Option.isSome).length, 1)
    assert.isTrue(Option.isNone(yield* migrate))
  }).pipe(Effect.provide(MemoryLayer.layer)))
