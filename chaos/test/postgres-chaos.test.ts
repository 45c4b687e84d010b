/**
 * A short run of the harness on Postgres, and mutants of the backend that it must find. `npm run chaos -- --backend
 * postgres` runs it for longer. A failure prints the violations and the seed.
 */
import { Recorder } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { Kind } from "../src/Fault.ts"
import { kindsOf } from "../src/Fault.ts"
import * as Inconclusive from "../src/Inconclusive.ts"
import * as Notes from "../src/Notes.ts"
import * as Report from "../src/Report.ts"
import * as Rounds from "../src/Round.ts"
import * as Run from "../src/Run.ts"
import * as Schedules from "../src/Schedule.ts"
import * as Testbeds from "../src/Testbed.ts"
import * as invoices from "../src/work/invoices.ts"
import { gate } from "./mutants.ts"

const quiet = () => Effect.void

/** Short faults that affect the most: writes without a response, lost connections, a crash, and holders of locks. */
const brief: ReadonlyArray<Kind> = [
  "outage",
  "kill-backend",
  "evict",
  "lose-responses",
  "cut-after-forwarding",
  "terminate-backends"
]

const request: Run.Request = {
  backend: "postgres",
  seconds: 18,
  seed: 12,
  version: "3.7",
  batching: true,
  faults: brief,
  outages: []
}

/** Replaces a part of the script of the schema, which must have it. */
const replacing = (...replacements: ReadonlyArray<readonly [part: string, by: string]>) => (script: string): string =>
  replacements.reduce((script, [part, by]) => {
    assert.include(script, part)
    return script.replace(part, by)
  }, script)

describe("under faults of Postgres", () => {
  it.live(
    "three clients run for 18 seconds, and nothing is lost, applied twice, misreported or leaked",
    () =>
      Effect.gen(function*() {
        // On a busy machine too little may happen in the first run.
        const summary = yield* Effect.repeat(Effect.scoped(Run.run(request, quiet)), {
          until: ({ findings }) => !Inconclusive.isAll(findings.violations),
          times: 2
        })
        assert.deepStrictEqual(summary.findings.violations, [], Report.format(summary))
        assert.isAtLeast([...summary.faults.values()].reduce((a, b) => a + b, 0), 4)
        assert.isAbove(summary.findings.increments.accepted, 0)
        assert.isAbove(summary.subject.round.done["bill"]!, 0)
      }),
    240_000
  )
})

describe("the harness on Postgres", () => {
  it.live(
    "finds a write that is repeated although it was applied, and watches that go on beyond a revision they have not read",
    () =>
      Effect.gen(function*() {
        const mutateScript = replacing(
          [
            `select x.revision into applied from "effect_kv".log x
  where x.revision > greatest(gone, since) and x.request = sender limit 1;`,
            ""
          ],
          ["o_n := greatest(now, since - 1);", "o_n := greatest(now + (now % 50 = 0)::int, since - 1);"]
        )
        const found = new Set<string>()
        const hasRepeated = () => found.has("DuplicateWrite") || found.has("PhantomWrite")
        const run = Effect.scoped(Run.run(
          { ...request, seconds: 14, faults: ["cut-after-forwarding", "lose-responses"], mutateScript },
          quiet
        ))
        // How many writes a fault hits depends on the machine.
        const { findings } = yield* Effect.repeat(run, {
          until: ({ findings }) => {
            for (const violation of findings.violations) found.add(violation.split(":")[0]!)
            return hasRepeated() && found.has("Missing")
          },
          times: 2
        })
        assert.isTrue(hasRepeated(), findings.violations.join("\n"))
        assert.isTrue(found.has("Missing"), findings.violations.join("\n"))
      }),
    300_000
  )

  it.live(
    "finds a fence of SQL transactions that checks nothing, and nothing wrong with one that does",
    () =>
      Effect.gen(function*() {
        const skipped = replacing([`if not found or not "effect_kv".holds(c, data) then return n; end if;`, ""])
        assert.deepStrictEqual(yield* billAfterTakeover((script) => script), [])
        assert.match(
          (yield* billAfterTakeover(skipped)).join("\n"),
          /^the invoice 1 with token \d+ follows the invoice 1 /
        )
      }),
    60_000
  )

  it("plans at least 40 faults for 300 seconds, and every kind once before it repeats one", () => {
    const kinds = kindsOf.postgres
    const schedule = Schedules.make({ millis: 300_000, kinds, clients: 3, seed: 7 })
    assert.strictEqual(new Set(schedule.slice(0, kinds.length).map(({ faults }) => faults[0]!.kind)).size, kinds.length)
    assert.isAtLeast(schedule.flatMap(({ faults }) => faults).length, 40)
  })
})

/** Bills as a holder that does not notice that its lock was taken over. Returns what the check says of the invoices. */
const billAfterTakeover = Effect.fnUntraced(function*(mutateScript: (script: string) => string) {
  const { links, openClients, store } = yield* Testbeds.make({ ...request, clients: 2, mutateScript })
  const recorder = yield* Recorder.make
  const notes = Notes.make(["c1", "c2"])
  const [stale, next] = yield* Effect.forEach(
    yield* openClients,
    (client) => Rounds.record(client, recorder, notes, { prefix: "r/" })
  )
  const how = { fencesFirst: false, isStubborn: true, acquireTimeout: 10_000, ttl: "30 seconds" } as const
  const { begun, pass, release } = yield* gate
  const late = yield* Effect.forkChild(
    Effect.exit(invoices.billing(stale!, stale!.application!, { ...how, meanwhile: pass }))
  )
  yield* begun
  // It cannot notice the loss until its own statement has arrived.
  yield* Effect.forEach(links[0]!, (link) => link.blackhole())
  yield* store.revoke((yield* store.oldest(`${invoices.billingLock("r/")}/`))!.lease)
  yield* invoices.billing(next!, next!.application!, { ...how, meanwhile: Effect.void })
  yield* release
  yield* Effect.sleep("50 millis")
  yield* Effect.forEach(links[0]!, (link) => link.heal)
  yield* Fiber.join(late)
  return yield* store.broken("r/", notes)
}, Effect.scoped)
