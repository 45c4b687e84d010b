/**
 * Short runs of the harness, so that every change of the library meets a failing cluster. `npm run chaos` runs it for
 * longer. A failure prints the violations and the seed.
 */
import * as Fence from "@effect-kv/core/Fence"
import type * as KvBackend from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import { EtcdBinaries, History } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import type { Kind } from "../src/Fault.ts"
import { kindsOf } from "../src/Fault.ts"
import * as Inconclusive from "../src/Inconclusive.ts"
import * as Notes from "../src/Notes.ts"
import * as Options from "../src/Options.ts"
import * as Report from "../src/Report.ts"
import * as RoundChecker from "../src/RoundChecker.ts"
import * as Run from "../src/Run.ts"
import * as SavedRound from "../src/SavedRound.ts"
import * as Schedule from "../src/Schedule.ts"
import * as SeededRandom from "../src/SeededRandom.ts"
import type { Write } from "../src/work/Worker.ts"

const quiet = () => Effect.void

const main = Path.join(import.meta.dirname, "../src/main.ts")

/** Short faults that affect the most: writes without a response, leaders, and holders of locks. */
const brief: ReadonlyArray<Kind> = ["kill-leader", "evict", "lose-responses", "cut-after-forwarding", "move-leader"]

const request: Run.Request = {
  backend: "etcd",
  seconds: 20,
  seed: 12,
  version: Effect.runSync(EtcdBinaries.currentVersion),
  batching: true,
  faults: brief,
  outages: []
}

const assertRight = (summary: Report.Summary) =>
  assert.deepStrictEqual(summary.findings.violations, [], Report.format(summary))

/** A run that proves something. On a busy machine too little may happen in the first one. */
const conclusive = (request: Run.Request) =>
  Effect.repeat(Effect.scoped(Run.run(request, quiet)), {
    until: ({ findings }) => !Inconclusive.isAll(findings.violations),
    times: 2
  })

describe("under faults", () => {
  it.live(
    "three clients of three servers run for 20 seconds, and nothing is lost, applied twice, misreported or leaked",
    () =>
      Effect.gen(function*() {
        const summary = yield* conclusive(request)
        assertRight(summary)
        assert.isAtLeast([...summary.faults.values()].reduce((a, b) => a + b, 0), 4)
        assert.isAbove(summary.findings.unknown.applied + summary.findings.unknown.notApplied, 0)
        assert.isAbove(summary.findings.increments.accepted, 0)
      }),
    240_000
  )

  it.live(
    "after an outage of all servers for 5 seconds, calls, locks, watches and temporary keys recover by themselves",
    () =>
      Effect.gen(function*() {
        const summary = yield* conclusive({ ...request, outages: [5] })
        assertRight(summary)
        assert.strictEqual(summary.faults.get("outage"), 1)
      }),
    240_000
  )
})

describe("the harness", () => {
  it.live(
    "finds a service whose writes are not fenced, because it captured its Kv before the lock was acquired",
    () =>
      Effect.gen(function*() {
        // Only evictions, which take locks away without notice. A write that nothing interrupts is then late.
        const late = (write: Write) => Fence.unfenced(Effect.uninterruptible(Effect.delay(write, "30 millis")))
        const unfenced = { ...request, seed: 3, faults: ["evict"], mutateWrite: late } as const
        const ofMutant = (violations: ReadonlyArray<string>) =>
          violations.filter((violation) => violation.startsWith("written without the lock"))
        // How many evictions hit a holder that writes depends on the machine.
        const { findings } = yield* Effect.repeat(Effect.scoped(Run.run(unfenced, quiet)), {
          until: ({ findings }) => ofMutant(findings.violations).length > 0,
          times: 2
        })
        assert.isAbove(ofMutant(findings.violations).length, 0, findings.violations.join("\n"))
      }),
    240_000
  )

  it.live(
    "finds a client that drops renewals and one whose sessions end without cause",
    () =>
      Effect.gen(function*() {
        let renewals = 0
        const dropped = Effect.delay(
          Effect.fail(KvError.make(new KvError.DeadlineExceeded({ message: "dropped by a mutant" }))),
          "600 millis"
        )
        const ended = Effect.fail(KvError.make(new KvError.LeaseNotFound({ message: "ended by a mutant" })))
        const mutateBackend = (client: string, backend: KvBackend.KvBackend): KvBackend.KvBackend => ({
          ...backend,
          leaseKeepAlive: (lease) => {
            const isMutated = renewals++ % 3 === 0
            if (isMutated && client === "c1") return dropped
            return isMutated && client === "c2" ? ended : backend.leaseKeepAlive(lease)
          }
        })
        const { subject } = yield* Run.run({ ...request, seconds: 10, faults: [], mutateBackend }, quiet)
        // Stalls of a busy machine would excuse some of it: when that is right, other tests show.
        const round = { ...subject.round, eventLoopStalls: [], serverStalls: [] }
        const { violations } = RoundChecker.check({ ...subject, round })
        const found = violations.filter((violation) => violation.includes("when nothing was broken")).join("\n")
        assert.match(
          found,
          /a call failed when nothing was broken: \{"client":"c1","request":\{"_tag":"LeaseKeepAlive"/
        )
        assert.match(found, /c2 lost its temporary key/)
      }),
    120_000
  )

  const kinds = kindsOf.etcd
  const options = { millis: 300_000, kinds, clients: 3 }

  it("plans the same faults for the same seed, and different faults for another seed", () => {
    assert.deepStrictEqual(Schedule.make({ ...options, seed: 7 }), Schedule.make({ ...options, seed: 7 }))
    assert.notDeepEqual(Schedule.make({ ...options, seed: 7 }), Schedule.make({ ...options, seed: 8 }))
  })

  it("uses every kind of fault once before it repeats one, and plans at least 40 faults for 300 seconds", () => {
    for (let seed = 1; seed <= 50; seed++) {
      const schedule = Schedule.make({ ...options, seed })
      assert.strictEqual(
        new Set(schedule.slice(0, kinds.length).map(({ faults }) => faults[0]!.kind)).size,
        kinds.length
      )
      assert.isAtLeast(schedule.flatMap(({ faults }) => faults).length, 40, `seed ${seed}`)
    }
  })

  it("makes the same random choices for the same step of the same worker", () => {
    const choices = (step: number) => {
      const random = SeededRandom.make(7, "c1", "register/0", step)
      return [random.int(0, 1000), random.int(0, 1000), random.int(0, 1000)]
    }
    assert.deepStrictEqual(choices(3), choices(3))
    assert.notDeepEqual(choices(3), choices(4))
  })

  it("fails a run in which too little happened", () => {
    const schedule = Schedule.make({ ...options, millis: 20_000, seed: 7 })
    const idle = {
      history: { calls: [], watches: [], holdings: [], effects: [] },
      changes: [],
      appliedFaults: [],
      began: 0n,
      stopped: 18_000_000_000n,
      ended: 20_000_000_000n,
      done: { register: 0 },
      problems: [],
      notes: Notes.make([]),
      eventLoopStalls: [],
      serverStalls: []
    }
    const { violations } = RoundChecker.check({
      backend: "etcd",
      schedule,
      kinds,
      round: idle,
      prefix: "r/",
      compactedAt: 0n,
      evicted: []
    })
    assert.strictEqual(
      violations.filter((violation) => violation.startsWith("inconclusive")).length,
      4,
      violations.join("\n")
    )
  })

  it.effect("finds the same violations in a saved round as in the round itself", () =>
    Effect.gen(function*() {
      const moment = (order: number) => ({ order, nanos: BigInt(order) })
      const call: History.Call = {
        _tag: "Call",
        id: 0,
        client: "c1",
        request: { _tag: "Execute", op: Op.put("r/register/0", "1") },
        invoked: moment(0),
        completed: moment(1),
        outcome: { _tag: "Responded", response: { _tag: "Put", revision: 2n } }
      }
      const round = {
        history: { ...History.empty, calls: [call] },
        changes: [],
        appliedFaults: [],
        began: 0n,
        stopped: 9_000_000_000n,
        ended: 10_000_000_000n,
        done: {},
        problems: ["something"],
        notes: Notes.make(["c1"]),
        eventLoopStalls: [],
        serverStalls: []
      }
      const subject: RoundChecker.Case = {
        backend: "etcd",
        schedule: [],
        kinds: [],
        round,
        prefix: "r/",
        compactedAt: 0n,
        evicted: [7n]
      }
      const path = yield* SavedRound.save(subject, `test-${process.pid}`)
      yield* Effect.addFinalizer(() => Effect.sync(() => Fs.rmSync(path, { recursive: true })))
      const loaded = yield* SavedRound.load(path)
      assert.deepStrictEqual(loaded, subject)
      assert.deepStrictEqual(RoundChecker.check(loaded), RoundChecker.check(subject))
      const { violations } = RoundChecker.check(loaded)
      assert.isTrue(violations.some((violation) => violation.startsWith("UnknownRevision")))
      // The same through the command line.
      const { status, stdout } = yield* Effect.sync(() =>
        ChildProcess.spawnSync(process.execPath, [main, "--check", path], { encoding: "utf8" })
      )
      assert.strictEqual(status, 1)
      assert.strictEqual(stdout.trim().split("\n").at(-1), `violations: ${violations.length}`)
    }))

  it("exits with status 1 if a run fails or an option is unknown", () => {
    const run = (...args: ReadonlyArray<string>) =>
      ChildProcess.spawnSync(process.execPath, [main, ...args], { encoding: "utf8" })
    const brokenOff = run("--check", "no-such-folder")
    assert.strictEqual(brokenOff.status, 1)
    assert.match(brokenOff.stdout, /^inconclusive: .*no-such-folder[^]*\nviolations: 1\n$/)
    const rejected = run("--faults", "earthquake")
    assert.strictEqual(rejected.status, 1)
    assert.match(rejected.stderr, /earthquake/)
  })

  it("rejects unknown options and values out of range", () => {
    assert.isString(Options.parse(["--seconds", "1"]))
    assert.isString(Options.parse(["--version", "3.3"]))
    assert.isString(Options.parse(["--faults", "earthquake"]))
    assert.isString(Options.parse(["--quickly"]))
    assert.isString(Options.parse(["--seconds", "Infinity"]))
    assert.isString(Options.parse(["--outage", ""]))
    assert.isString(Options.parse(["--outage", "5", "--soak"]))
    assert.isString(Options.parse(["--soak", "--seconds", "120"]))
    const parsed = Options.parse(["--seconds", "300", "--seed", "9", "--version", "3.4", "--faults", "cut,stall"])
    assert.deepInclude(parsed, { seconds: 300, seed: 9, version: "3.4", batching: true, faults: ["cut", "stall"] })
  })
})
