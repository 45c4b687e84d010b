/**
 * The decisions of `RunOnce`: which ticks are due, on every machine the same, and what follows from a record.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Cron from "effect/Cron"
import * as Effect from "effect/Effect"
import { decide, type Decision, graceMillis, type Policy } from "../src/internal/runOnce/decide.ts"
import type { Record } from "../src/internal/runOnce/model.ts"
import * as ticks from "../src/internal/runOnce/ticks.ts"

const ticksOf = (expression: string, zone?: string) => Effect.runSync(ticks.of(Cron.parseUnsafe(expression, zone)))
const at = (iso: string) => Date.parse(iso)
const iso = (millis: number | undefined) => millis === undefined ? undefined : new Date(millis).toISOString()

describe("ticks", () => {
  it("of a schedule without a time zone are those of UTC, in whichever zone the machine is", () => {
    const zone = process.env["TZ"]
    try {
      for (const machine of ["UTC", "Asia/Tokyo", "America/New_York"]) {
        process.env["TZ"] = machine
        const { last, next } = ticksOf("0 3 * * *")
        assert.strictEqual(iso(next(at("2030-06-01T02:00:00Z"))), "2030-06-01T03:00:00.000Z", machine)
        assert.strictEqual(iso(last(0, at("2030-06-01T02:00:00Z"))), "2030-05-31T03:00:00.000Z", machine)
      }
    } finally {
      if (zone === undefined) delete process.env["TZ"]
      else process.env["TZ"] = zone
    }
  })

  it("the last one is the last that next finds, also around changes of the clocks", () => {
    for (
      const [expression, zone, from, to] of [
        ["30 2 * * *", "Europe/Berlin", "2030-03-29T12:00:00Z", "2030-04-02T12:00:00Z"],
        ["*/20 2 * * *", "Europe/Berlin", "2030-10-26T12:00:00Z", "2030-10-28T12:00:00Z"],
        ["0 */7 * * *", "America/New_York", "2030-11-02T00:00:00Z", "2030-11-05T00:00:00Z"],
        ["0 0 29 2 *", "UTC", "2024-01-01T00:00:00Z", "2033-01-01T00:00:00Z"],
        ["*/15 * * * * *", "UTC", "2030-01-01T00:00:00Z", "2030-01-01T00:10:00Z"]
      ] as const
    ) {
      const { last, next } = ticksOf(expression, zone)
      const all: Array<number> = []
      for (let tick = next(at(from)); tick <= at(to); tick = next(tick)) all.push(tick)
      assert.isAbove(all.length, 1)
      const step = (at(to) - at(from)) / 60
      for (let until = at(from); until <= at(to); until += step) {
        const expected = all.findLast((tick) => tick <= until)
        assert.strictEqual(iso(last(at(from), until)), iso(expected), `${expression} ${iso(until)}`)
      }
      for (const tick of all) {
        assert.strictEqual(last(at(from), tick), tick, "a tick is due at its very time")
        assert.strictEqual(last(tick, tick + 1), undefined)
      }
    }
  })
})

describe("decisions", () => {
  const everyMinute = ticksOf("* * * * *", "UTC")
  const noon = at("2030-01-01T12:00:00Z")
  const minutes = (n: number) => noon + n * 60_000
  const record = (state: Record["state"], attempts = 1, tick = noon): Record => ({
    tick: new Date(tick).toISOString(),
    state,
    by: "",
    attempts
  })
  const policy: Policy = { missed: "latest", onCrash: "retry" }
  const decided = (last: Record | undefined, now: number, options: Partial<Policy> = {}, isRunning = false): Decision =>
    decide({ record: last, isRunning }, now, everyMinute, { ...policy, ...options })
  const start = (tick: number, attempts = 1): Decision => ({ _tag: "Start", tick, attempts })
  const wait = (until?: number): Decision => ({ _tag: "Wait", until })

  it("wait for the end of a run in progress, whatever is due", () => {
    for (const state of ["Running", "Done", "Interrupted"] as const) {
      assert.deepStrictEqual(decided(record(state), minutes(5), {}, true), wait())
    }
  })

  it("register a name that has no record", () => {
    assert.deepStrictEqual(decided(undefined, noon), { _tag: "Register" })
  })

  it("start the tick that is due, and wait for the next one otherwise", () => {
    for (const state of ["Done", "Failed", "Waiting"] as const) {
      assert.deepStrictEqual(decided(record(state), noon), wait(minutes(1)))
      assert.deepStrictEqual(decided(record(state), minutes(1) - 1), wait(minutes(1)))
      assert.deepStrictEqual(decided(record(state), minutes(1)), start(minutes(1)))
    }
  })

  it("never go back: a clock that is behind waits for the tick after the last one", () => {
    for (const missed of ["latest", "all", "skip"] as const) {
      assert.deepStrictEqual(decided(record("Done"), minutes(-30), { missed }), wait(minutes(1)))
    }
  })

  it("of several due ticks start the first, the last, or only one that is not late", () => {
    const now = minutes(3) + 30_000
    assert.deepStrictEqual(decided(record("Done"), now, { missed: "latest" }), start(minutes(3)))
    assert.deepStrictEqual(decided(record("Done"), now, { missed: "all" }), start(minutes(1)))
    assert.deepStrictEqual(decided(record("Done"), now, { missed: "skip" }), wait(minutes(4)))
    const onTime = minutes(3) + graceMillis
    assert.deepStrictEqual(decided(record("Done"), onTime, { missed: "skip" }), start(minutes(3)))
  })

  it("repeat a broken run before anything else, or never", () => {
    for (const state of ["Running", "Interrupted"] as const) {
      assert.deepStrictEqual(decided(record(state, 2), minutes(5)), start(noon, 3))
      assert.deepStrictEqual(decided(record(state, 2), minutes(5), { onCrash: "skip" }), start(minutes(5)))
      assert.deepStrictEqual(decided(record(state, 2), noon, { onCrash: "skip" }), wait(minutes(1)))
    }
  })
})
