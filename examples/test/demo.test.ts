/**
 * The demo works on memory and on etcd, and fails if its check fails.
 */
import { Entry } from "@effect-kv/core"
import { EtcdCluster } from "@effect-kv/test-suite/verification"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Printer } from "../src/demo/Printer.ts"
import * as Report from "../src/demo/Report.ts"
import { demo, succeeded } from "./support/demo.ts"

it.live("the demo succeeds in memory", () => Effect.map(demo([], undefined), succeeded), 120_000)

it.live("the demo succeeds on etcd in three processes and leaves nothing behind", () =>
  Effect.gen(function*() {
    const cluster = yield* EtcdCluster.make()
    succeeded(yield* demo(["--processes", "3"], cluster.endpoints[0]))
    assert.strictEqual((yield* cluster.etcdctl(["get", "", "--prefix", "--keys-only"])).trim(), "")
  }), 60_000)

it.live(
  "the demo of an election succeeds in memory",
  () =>
    Effect.map(demo(["election"], undefined), ({ code, output }) => {
      assert.strictEqual(code, 0, output)
      assert.match(output, /KILLED while it leads/)
      assert.match(output, /took over \d+ ms after the kill/)
      assert.match(output, /vacant/)
    }),
  120_000
)

it.live(
  "the demo of a semaphore succeeds in memory",
  () =>
    Effect.map(demo(["semaphore"], undefined), ({ code, output }) => {
      assert.strictEqual(code, 0, output)
      assert.match(output, /KILLED while it holds 2/)
      assert.match(output, /returned \d+ ms after the kill/)
    }),
  120_000
)

it.live(
  "the demo rejects processes without a shared store",
  () =>
    Effect.map(demo(["--processes", "2"], undefined), ({ code, output }) => {
      assert.strictEqual(code, 1)
      assert.match(output, /name an etcd or Postgres server/)
    }),
  120_000
)

const entry = (i: number) =>
  Entry.make({ key: `log/${i}`, value: "", createRevision: 1n, modRevision: 1n, version: 1, lease: Option.none() })

const silent: Printer = {
  line: () => Effect.void,
  heading: () => Effect.void,
  event: () => Effect.void,
  check: (_, holds) => Effect.succeed(holds)
}

/** Two holds in sequence, each with an increment; a kill ends the first one. */
const good = (): Report.Report => ({
  holds: [
    { worker: "ada", token: 2n, from: 0, until: 10 },
    { worker: "bert", token: 5n, from: 20, until: 30 }
  ],
  writes: 2,
  killedAt: 10,
  takeOverMillis: 10
})

const check = (report: Report.Report, counter: string, log: number) =>
  Effect.exit(
    Report.conclude(report, Option.some(counter), Array.from({ length: log }, (_, i) => entry(i)), silent)
  )

it.effect("the check accepts a correct run and fails for each single defect", () =>
  Effect.gen(function*() {
    assert.strictEqual((yield* check(good(), "2", 2))._tag, "Success")
    const [first, second] = good().holds
    const inAnotherOrder = yield* check({ ...good(), holds: [second!, first!] }, "2", 2)
    assert.strictEqual(inAnotherOrder._tag, "Success", "messages of two processes may arrive in any order")
    const wrong = [
      check(good(), "1", 2),
      check(good(), "4", 4),
      check({ ...good(), holds: [first!, { ...second!, from: 5 }] }, "2", 2),
      check({ ...good(), holds: [first!, { ...second!, token: 1n }] }, "2", 2),
      check({ ...good(), writes: 0 }, "2", 2),
      check({ ...good(), takeOverMillis: undefined }, "2", 2)
    ]
    for (const exit of yield* Effect.all(wrong)) assert.strictEqual(exit._tag, "Failure")
  }))
