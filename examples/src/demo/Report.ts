/**
 * A report of what the demo observed, and its final check.
 */
import type { Entry } from "@effect-kv/core"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Printer } from "./Printer.ts"
import type * as Worker from "./Worker.ts"

interface Hold {
  readonly worker: string
  readonly token: bigint
  readonly from: number
  until: number | undefined
}

export interface Report {
  readonly holds: Array<Hold>
  /** Increments that workers reported. */
  writes: number
  killedAt: number | undefined
  takeOverMillis: number | undefined
}

export const empty = (): Report => ({ holds: [], writes: 0, killedAt: undefined, takeOverMillis: undefined })

/** Records a worker's message and prints it. */
export const record = (report: Report, message: Worker.Message, print: Printer): Effect.Effect<void> => {
  switch (message._tag) {
    case "Holds":
      return recordHold(report, message, print)
    case "Wrote": {
      const hold = holdOf(report, message.token)
      if (hold !== undefined) hold.until = message.at
      report.writes++
      return print.event(message.worker, `counter ${message.from} -> ${message.to}`)
    }
    case "Failed":
      return print.event(message.worker, message.message)
    case "Ended":
      return Effect.void
  }
}

const recordHold = Effect.fnUntraced(function*(
  report: Report,
  { at, token, worker }: Extract<Worker.Message, { readonly _tag: "Holds" }>,
  print: Printer
) {
  report.holds.push({ worker, token: BigInt(token), from: at, until: undefined })
  // The message of a hold before the kill may arrive after those of the holds that followed.
  if (report.killedAt === undefined || report.takeOverMillis !== undefined || at < report.killedAt) {
    return yield* print.event(worker, `holds the lock, token ${token}`)
  }
  report.takeOverMillis = at - report.killedAt
  yield* print.event(worker, `holds the lock, token ${token}: took over ${report.takeOverMillis} ms after the kill`)
})

/** Records that a holder was killed. */
export const recordKill = (report: Report, token: string, at: number): void => {
  report.killedAt = at
  const hold = holdOf(report, token)
  if (hold !== undefined) hold.until = at
}

const holdOf = (report: Report, token: string): Hold | undefined =>
  report.holds.find((hold) => hold.token === BigInt(token))

/** The demo failed: an increment was lost, two workers held the lock at once, or no worker took over. */
export class CheckFailed extends Data.TaggedError("CheckFailed")<{ readonly message: string }> {}

/**
 * Compares the workers' reports with the store: the counter, and an entry for each increment that the store accepted. A
 * worker that is killed after the store accepted an increment, but before it reported it, has written one more than it
 * reported.
 */
export const conclude = Effect.fnUntraced(function*(
  report: Report,
  counter: Option.Option<string>,
  log: ReadonlyArray<Entry.Entry>,
  print: Printer
) {
  const value = Number(Option.getOrElse(counter, () => "0"))
  // By when each began: messages of different processes may arrive in another order.
  const holds = report.holds.toSorted((a, b) => a.from - b.from || Number(a.token - b.token))
  const overlaps = holds.filter((hold, i) => {
    const before = holds[i - 1]
    return before?.until !== undefined && hold.from < before.until
  })
  const tokensGrow = holds.every((hold, i) => i === 0 || hold.token > holds[i - 1]!.token)
  yield* print.heading("The check")
  const results = [
    yield* print.check(
      `${log.length} increments were accepted by the store, and the counter is ${value}`,
      log.length > 0 && value === log.length
    ),
    yield* print.check(
      `${report.writes} of them were reported by their workers`,
      report.writes === log.length || report.writes === log.length - 1
    ),
    yield* print.check(
      `${report.holds.length} holds, ${overlaps.length} of them while another worker held the lock`,
      overlaps.length === 0
    ),
    yield* print.check("tokens grow from each holder to the next", tokensGrow),
    yield* print.check(
      report.takeOverMillis === undefined
        ? "no worker took over from the holder that was killed"
        : `a waiter took over ${report.takeOverMillis} ms after the holder was killed`,
      report.takeOverMillis !== undefined
    )
  ]
  if (results.includes(false)) return yield* new CheckFailed({ message: "The check has failed." })
  yield* print.line("\nNothing was lost, and no two workers held the lock at once.")
})
