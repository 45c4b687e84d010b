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
}

interface Beat {
  readonly at: number
  readonly elapsed: number
  readonly stall: number
}

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
    return {
      during: ({ from, to }) =>
        Effect.callback((resume) => {
          const check = () => {
            if ((beats.at(-1)?.at ?? 0) < to) return
            waiting.delete(check)
            resume(Effect.succeed(stallOf(beats, { from, to })))
          }
          waiting.add(check)
          check()
          return Effect.sync(() => waiting.delete(check))
        })
    }
  }
)

const stallOf = (beats: ReadonlyArray<Beat>, { from, to }: Interval): number =>
  beats.reduce((sum, { at, elapsed, stall }) => {
    const overlap = Math.max(0, Math.min(to, at) - Math.max(from, at - elapsed))
    return sum + Math.min(stall, overlap)
  }, 0)
