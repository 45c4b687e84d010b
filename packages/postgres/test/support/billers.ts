/**
 * The processes of `programs/biller.ts`.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as Readline from "node:readline"
import { fileURLToPath } from "node:url"

export interface Biller {
  /** Waits for its next line. */
  readonly line: Effect.Effect<string>
  /** Tells it to bill. */
  readonly go: Effect.Effect<void>
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
}

const program = fileURLToPath(new URL("../programs/biller.ts", import.meta.url))

/** Starts a process, which is killed when the scope closes. */
export const start = (
  url: string,
  name: string,
  fence: "fenced" | "unfenced"
): Effect.Effect<Biller, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() =>
        ChildProcess.spawn(process.execPath, [program, url, name, fence], { stdio: ["pipe", "pipe", "inherit"] })
      ),
      (child) => Effect.sync(() => void child.kill("SIGKILL"))
    ),
    (child) => {
      const lines: Array<string> = []
      let waiting: (() => void) | undefined
      const reader = Readline.createInterface({ input: child.stdout })
      const add = (line: string) => {
        lines.push(line)
        waiting?.()
      }
      reader.on("line", add)
      child.on("close", () => add("ended"))
      return {
        line: Effect.callback<string>((resume) => {
          waiting = () => {
            const line = lines.shift()
            if (line === undefined) return
            waiting = undefined
            resume(Effect.succeed(line))
          }
          waiting()
        }).pipe(
          Effect.timeoutOrElse({
            duration: "50 seconds",
            orElse: () => Effect.die(new Error(`the process ${name} has printed no line for 50 seconds`))
          })
        ),
        go: Effect.sync(() => void child.stdin.write("go\n")),
        signal: (signal) => Effect.sync(() => void child.kill(signal))
      }
    }
  )
