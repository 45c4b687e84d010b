/**
 * A soak: the same clients for a long time, with a fault every 20 seconds, to see that memory stays flat and nothing
 * leaks.
 *
 * It consists of rounds of a minute. Each has its own keys and history, which are checked and then dropped, so only the
 * clients can make memory grow from round to round.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { Kind } from "./Fault.ts"
import * as Growth from "./Growth.ts"
import type { Options } from "./Options.ts"
import * as Resources from "./Resources.ts"
import * as Rounds from "./Round.ts"
import * as RoundChecker from "./RoundChecker.ts"
import * as Run from "./Run.ts"
import * as SavedRound from "./SavedRound.ts"
import * as Schedule from "./Schedule.ts"
import * as Testbeds from "./Testbed.ts"

/** The duration of the load of a round, and the time between two faults, in milliseconds. */
const roundMillis = 60_000
const every = 20_000

/** The result of a round. */
export interface Lap extends Growth.Sample {
  readonly calls: number
  readonly faults: ReadonlyMap<Kind, number>
  readonly unknown: number
  /** Leases that etcd ended early. */
  readonly revokedByDeposed: number
  readonly resident: number
}

export interface Soak {
  readonly title: string
  readonly seconds: number
  readonly laps: ReadonlyArray<Lap>
  readonly left: Resources.Resources
  readonly violations: ReadonlyArray<string>
}

export const run = Effect.fnUntraced(function*(
  options: Pick<Options, "backend" | "seconds" | "seed" | "version" | "batching" | "faults">,
  print: (line: string) => Effect.Effect<void>
) {
  const testbed = yield* Testbeds.make({ ...options, clients: Run.clients })
  const fibers = Resources.countFibers()
  const limits = yield* Resources.count(testbed, fibers)
  const began = yield* Clock.monotonicTimeNanos
  const elapsed = Effect.map(Clock.monotonicTimeNanos, (now) => Number(now - began) / 1e9)
  const progress = (text: string) =>
    Effect.flatMap(elapsed, (seconds) => print(`${seconds.toFixed(1).padStart(7)} s  ${text}`))
  const laps: Array<Lap> = []
  const violations: Array<string> = []
  /** Printed immediately: the soak may run for hours and be stopped before its end. */
  const found = (these: ReadonlyArray<string>) => {
    violations.push(...these)
    return Effect.forEach(these, (violation) => progress(`violation: ${violation}`), { discard: true })
  }

  yield* Effect.gen(function*() {
    const clients = yield* testbed.openClients
    while ((yield* elapsed) < options.seconds) {
      const lap = yield* runLap(
        testbed,
        clients,
        { ...options, seed: options.seed + laps.length, lap: laps.length },
        progress
      )
      yield* found(lap.violations.map((violation) => `round ${laps.length + 1}: ${violation}`))
      const left = yield* Resources.whenSettled(testbed, fibers, limits, ["leases", "watches", "keys"])
      yield* found(
        Resources.excess(left, limits, ["leases", "watches", "keys"]).map((excess) =>
          `left after round ${laps.length + 1}: ${excess}`
        )
      )
      // Objects with finalizers need a second collection.
      yield* collectGarbage
      yield* Effect.sleep("500 millis")
      yield* collectGarbage
      const { external, heapUsed, rss } = process.memoryUsage()
      laps.push({ ...lap.counted, ...left, memory: heapUsed + external, resident: rss })
      yield* progress(
        `round ${laps.length}: ${lap.counted.calls} operations, memory ${mebibytes(heapUsed + external)}, ` +
          `resident ${mebibytes(rss)}, ${Resources.format(left)}`
      )
    }
  }).pipe(Effect.scoped, fibers.within)

  const seconds = yield* elapsed
  const left = yield* Resources.whenSettled(testbed, fibers, limits)
  violations.push(
    ...Resources.excess(left, limits).map((excess) => `left behind: ${excess}`),
    ...Growth.excess(laps)
  )
  return {
    title: `soak, ${testbed.store.title}, batching ${options.batching ? "on" : "off"}, seed ${options.seed}`,
    seconds,
    laps,
    left,
    violations
  } satisfies Soak
})

/** A function of its own, so that nothing of the round is referenced after it returns. */
const runLap = Effect.fnUntraced(function*(
  testbed: Testbeds.Testbed,
  clients: ReadonlyArray<Testbeds.Client>,
  options: Pick<Options, "seed" | "faults"> & { readonly lap: number },
  progress: (text: string) => Effect.Effect<void>
) {
  const prefix = `r${options.lap}/`
  const { seed } = options
  const schedule = Schedule.make({ seed, millis: roundMillis, kinds: options.faults, clients: clients.length, every })
  const summary = yield* Effect.flatMap(
    Rounds.run(testbed, clients, { seed, prefix, schedule, millis: roundMillis, progress }),
    (round) => {
      const subject = RoundChecker.caseOf(testbed, { schedule, kinds: options.faults, round, prefix })
      const { revokedByDeposed, unknown, violations } = RoundChecker.check(subject)
      const saved = violations.length > 0 ? SavedRound.save(subject, `soak-seed-${seed}`) : Effect.undefined
      return Effect.map(saved, (saved) => ({
        saved,
        violations,
        revokedByDeposed,
        calls: round.history.calls.length,
        faults: Run.countKinds(round.appliedFaults),
        unknown: unknown.applied + unknown.notApplied + unknown.leases
      }))
    }
  ).pipe(Effect.scoped)
  const { saved, violations, ...counted } = summary
  if (saved !== undefined) yield* progress(`${violations.length} violations; the history is in ${saved}`)
  return {
    violations,
    counted
  }
})

/** Needs `--expose-gc`. */
const collectGarbage = Effect.suspend(() =>
  globalThis.gc === undefined
    ? Effect.die(new Error("start node with --expose-gc"))
    : Effect.sync(globalThis.gc)
)

const mebibytes = (bytes: number): string => `${(bytes / 1024 / 1024).toFixed(1)} MiB`

/** As lines; the last is `violations: N`. */
export const format = ({ laps, left, seconds, title, violations }: Soak): string => {
  const calls = laps.reduce((sum, lap) => sum + lap.calls, 0)
  const unknown = laps.reduce((sum, lap) => sum + lap.unknown, 0)
  const faults = laps.reduce((sum, lap) => sum + [...lap.faults.values()].reduce((a, b) => a + b, 0), 0)
  return [
    ...violations.map((violation, i) => `violation ${i + 1}: ${violation}`),
    "",
    title,
    `  ${seconds.toFixed(0)} s, ${laps.length} rounds, ${calls.toLocaleString("en")} operations, ${faults} faults, ` +
    `${unknown} unknown outcomes (${(unknown / Math.max(1, calls) * 100).toFixed(2)} %)`,
    `  memory after each round: ${laps.map(({ memory }) => mebibytes(memory)).join(", ")}`,
    `  resident after each round: ${laps.map(({ resident }) => mebibytes(resident)).join(", ")}`,
    `  growth in a round: ${Growth.format(laps)}`,
    `  leases that a deposed leader revoked: ${laps.reduce((sum, lap) => sum + lap.revokedByDeposed, 0)}`,
    `  left: ${Resources.format(left)}`,
    `violations: ${violations.length}`
  ].join("\n")
}
