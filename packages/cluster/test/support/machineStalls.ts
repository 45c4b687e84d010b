/**
 * Stalls of the machine, as the control process of `programs/machineStalls.ts` has measured them. What a limit allows does
 * not include the time for which the machine let nothing run.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as Readline from "node:readline"
import { fileURLToPath } from "node:url"

/** The time between two instants, in milliseconds since the epoch. */
export interface Interval {
  readonly from: number
  readonly to: number
}

export interface MachineStalls {
  /** For how many milliseconds of the interval the control process was not let run, once it has reported on all of it. */
  readonly during: (interval: Interval) => Effect.Effect<number>
  /** The part of the interval for which a process that computes all the time was not let run: from 0 to 1. */
  readonly share: (interval: Interval) => Effect.Effect<number>
}

interface Beat {
  readonly at: number
  readonly elapsed: number
  readonly stall: number
}

/** For how long the control process computes in each beat. */
const workMillis = 1

const program = fileURLToPath(new URL("../programs/machineStalls.ts", import.meta.url))

/** Starts the control process. It is killed when the scope closes. */
export const measure: Effect.Effect<MachineStalls, never, Scope.Scope> = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => ChildProcess.spawn(process.execPath, [program], { stdio: ["ignore", "pipe", "inherit"] })),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  ),
  (child) => {
    const beats: Array<Beat> = []
    const waiting = new Set<() => void>()
    Readline.createInterface({ input: child.stdout }).on("line", (line) => {
      beats.push(JSON.parse(line) as Beat)
      waiting.forEach((check) => check())
    })
    const reportedUpTo = (time: number) =>
      Effect.callback<void>((resume) => {
        const check = () => {
          if ((beats.at(-1)?.at ?? 0) < time) return
          waiting.delete(check)
          resume(Effect.void)
        }
        waiting.add(check)
        check()
        return Effect.sync(() => waiting.delete(check))
      })
    return {
      during: (interval) => Effect.map(reportedUpTo(interval.to), () => stallOf(beats, interval)),
      share: (interval) =>
        Effect.map(reportedUpTo(interval.to), () => {
          const stall = stallOf(beats, interval)
          const worked = beats.filter(({ at }) => at >= interval.from && at <= interval.to).length * workMillis
          return stall === 0 ? 0 : stall / (stall + worked)
        })
    }
  }
)

const stallOf = (beats: ReadonlyArray<Beat>, { from, to }: Interval): number =>
  beats.reduce((sum, { at, elapsed, stall }) => {
    const overlap = Math.max(0, Math.min(to, at) - Math.max(from, at - elapsed))
    return sum + Math.min(stall, overlap)
  }, 0)
