/**
 * Closed-loop measurements: so many callers, each making its next call when the last has answered.
 *
 * Subjects of a scenario take turns in short rounds against the same server, so that what else the machine does hits them
 * alike; a row is the median of the rounds.
 */
import * as Effect from "effect/Effect"

/** One line of the result. */
export interface Row {
  readonly scenario: string
  readonly subject: string
  readonly inFlight: number
  readonly opsPerSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly cpuMicrosPerOp: number
}

/** What is measured. The effect is one operation of the given caller. */
export interface Subject {
  readonly name: string
  readonly op: (caller: number) => Effect.Effect<unknown, unknown>
}

/** What one round found. */
export interface Round {
  readonly opsPerSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly cpuMicrosPerOp: number
}

export interface Options {
  readonly rounds: number
  readonly millis: number
}

/** Lets the subjects take turns. */
export const alternate = Effect.fnUntraced(function*(
  scenario: string,
  inFlight: number,
  subjects: ReadonlyArray<Subject>,
  options: Options
) {
  const rounds = new Map<string, Array<Round>>(subjects.map((subject) => [subject.name, []]))
  for (const subject of subjects) yield* closedLoop(subject, inFlight, options.millis / 4)
  for (let i = 0; i < options.rounds; i++) {
    for (const subject of subjects) {
      rounds.get(subject.name)!.push(yield* closedLoop(subject, inFlight, options.millis))
    }
  }
  return [...rounds].map(([subject, rounds]) => toRow(scenario, subject, inFlight, rounds))
})

/** One subject for so long. */
export const closedLoop = Effect.fnUntraced(function*(subject: Subject, inFlight: number, millis: number) {
  const latencies: Array<number> = []
  const started = performance.now()
  const cpu = process.cpuUsage()
  const caller = Effect.fnUntraced(function*(id: number) {
    while (performance.now() - started < millis) {
      const before = performance.now()
      yield* subject.op(id)
      latencies.push(performance.now() - before)
    }
  })
  yield* Effect.forEach(Array.from({ length: inFlight }, (_, id) => id), caller, { concurrency: "unbounded" })
  return summarize(latencies, performance.now() - started, process.cpuUsage(cpu))
})

/** A round of `count` operations that took so long together. */
export const whole = (count: number, millis: number, cpu: NodeJS.CpuUsage): Round => ({
  opsPerSecond: count / millis * 1000,
  p50Ms: Number.NaN,
  p99Ms: Number.NaN,
  cpuMicrosPerOp: (cpu.user + cpu.system) / count
})

export const summarize = (latencies: Array<number>, millis: number, cpu: NodeJS.CpuUsage): Round => {
  latencies.sort((a, b) => a - b)
  return {
    ...whole(latencies.length, millis, cpu),
    p50Ms: latencies[Math.floor(latencies.length * 0.5)] ?? Number.NaN,
    p99Ms: latencies[Math.floor(latencies.length * 0.99)] ?? Number.NaN
  }
}

export const toRow = (scenario: string, subject: string, inFlight: number, rounds: ReadonlyArray<Round>): Row => ({
  scenario,
  subject,
  inFlight,
  opsPerSecond: median(rounds.map((round) => round.opsPerSecond)),
  p50Ms: median(rounds.map((round) => round.p50Ms)),
  p99Ms: median(rounds.map((round) => round.p99Ms)),
  cpuMicrosPerOp: median(rounds.map((round) => round.cpuMicrosPerOp))
})

const median = (values: Array<number>): number =>
  values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
