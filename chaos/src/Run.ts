/**
 * One run: a testbed, a round on it, and its report.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { AppliedFault } from "./AppliedFault.ts"
import * as Availability from "./Availability.ts"
import * as Disturbances from "./Disturbances.ts"
import type { Kind } from "./Fault.ts"
import type { Options } from "./Options.ts"
import type * as Report from "./Report.ts"
import * as Resources from "./Resources.ts"
import type { Round } from "./Round.ts"
import * as Rounds from "./Round.ts"
import * as RoundChecker from "./RoundChecker.ts"
import * as SavedRound from "./SavedRound.ts"
import * as Schedule from "./Schedule.ts"
import * as Testbeds from "./Testbed.ts"
import { isResidentKey } from "./work/leases.ts"

/** The number of clients. */
export const clients = 3

const prefix = "r/"

/** The options of a run. */
export interface Request
  extends
    Pick<Options, "backend" | "seconds" | "seed" | "version" | "batching" | "faults" | "outages">,
    Pick<Rounds.Options, "mutateWrite" | "mutateBackend">,
    Pick<Testbeds.Options, "mutateScript">
{}

const scheduleOf = ({ faults, outages, seconds, seed }: Request) => {
  const millis = seconds * 1000
  if (outages.length === 0) return { schedule: Schedule.make({ seed, millis, kinds: faults, clients }), millis }
  const schedule = Schedule.outages(outages.map((seconds) => seconds * 1000))
  return { schedule, millis: Schedule.lengthOf(schedule) }
}

export const run = Effect.fnUntraced(function*(options: Request, print: (line: string) => Effect.Effect<void>) {
  const { millis, schedule } = scheduleOf(options)
  const testbed = yield* Testbeds.make({ ...options, clients })
  const fibers = Resources.countFibers()
  const limits = yield* Resources.count(testbed, fibers)
  const began = yield* Clock.monotonicTimeNanos
  const progress = (text: string) =>
    Effect.flatMap(
      Clock.monotonicTimeNanos,
      (now) => print(`${(Number(now - began) / 1e9).toFixed(1).padStart(7)} s  ${text}`)
    )
  yield* progress(`${schedule.flatMap(({ faults }) => faults).length} faults planned, ${testbed.store.title}`)

  const round = yield* Effect.flatMap(
    testbed.openClients,
    (clients) =>
      Rounds.run(testbed, clients, {
        seed: options.seed,
        prefix,
        schedule,
        millis,
        progress,
        mutateWrite: options.mutateWrite,
        mutateBackend: options.mutateBackend
      })
  ).pipe(Effect.scoped, fibers.within)
  const subject = RoundChecker.caseOf(testbed, { schedule, kinds: options.faults, round, prefix })
  const save = SavedRound.save(subject, `${testbed.store.title.replace(" ", "-")}-seed-${options.seed}`)
  // If anything fails from here on, the round is saved for inspection.
  return yield* summing(testbed, subject, { fibers, limits, progress }).pipe(
    Effect.onError(() => Effect.flatMap(save, (saved) => progress(`the run failed; the history is in ${saved}`))),
    Effect.flatMap((summary) =>
      summary.findings.violations.length === 0
        ? Effect.succeed(summary)
        : Effect.map(save, (saved): Report.Summary => ({ ...summary, saved }))
    ),
    Effect.map((summary): Report.Summary => ({
      ...summary,
      title: `${testbed.store.title}, batching ${options.batching ? "on" : "off"}, seed ${options.seed}`
    }))
  )
})

interface Counting {
  readonly fibers: Resources.FiberCount
  readonly limits: Resources.Limits
  readonly progress: (text: string) => Effect.Effect<void>
}

const summing = Effect.fnUntraced(function*(testbed: Testbeds.Testbed, subject: RoundChecker.Case, counting: Counting) {
  const { fibers, limits, progress } = counting
  const { round } = subject
  yield* progress("closed; looking for leaks")
  const left = yield* Resources.whenSettled(testbed, fibers, limits)
  yield* progress(`checking ${round.history.calls.length} operations`)
  const checked = RoundChecker.check(subject)
  const violations = [
    ...checked.violations,
    ...Resources.excess(left, limits).map((excess) => `left behind: ${excess}`)
  ]
  return {
    title: "",
    calls: round.history.calls.length,
    seconds: Number(round.ended - round.began) / 1e9,
    events: eventsOf(round),
    faults: countKinds(round.appliedFaults),
    outages: Availability.outages(round.history, round.appliedFaults, isResidentKey),
    silences: Disturbances.longestSilences(round),
    findings: { ...checked, violations },
    left,
    subject
  } satisfies Report.Summary
})

const eventsOf = ({ history }: Round): number => {
  let events = 0
  for (const watch of history.watches) for (const batch of watch.batches) events += batch.events.length
  return events
}

/** How many faults of each kind were applied. */
export const countKinds = (appliedFaults: ReadonlyArray<AppliedFault>): ReadonlyMap<Kind, number> => {
  const counts = new Map<Kind, number>()
  for (const { fault, problem } of appliedFaults) {
    if (problem === undefined) counts.set(fault.kind, (counts.get(fault.kind) ?? 0) + 1)
  }
  return counts
}
