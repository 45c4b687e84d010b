/**
 * The processes of `lockWorker.ts`: starting, pausing and killing them.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as Readline from "node:readline"
import { fileURLToPath } from "node:url"

/** What a process does. */
export type Work = "hold" | "block" | "count" | "temporaryKey" | "recipes"

/** A line of a process's report. */
export type Line =
  | { readonly _tag: "Held"; readonly token: string }
  | { readonly _tag: "Finalized" }
  | { readonly _tag: "Rejected"; readonly how: string }
  | { readonly _tag: "Ended"; readonly how: string }
  | { readonly _tag: "Stopped" }

export interface Worker {
  readonly pid: number
  /** All reported lines, with the time at which they arrived. */
  readonly lines: ReadonlyArray<Line & { readonly at: number }>
  /** Waits for the first line of this kind. */
  readonly reported: <Tag extends Line["_tag"]>(
    tag: Tag
  ) => Effect.Effect<Extract<Line, { readonly _tag: Tag }> & { readonly at: number }>
  readonly signal: (signal: "SIGSTOP" | "SIGCONT" | "SIGKILL") => Effect.Effect<void>
  /** Ends the process in an orderly way, and waits until it has exited. */
  readonly stop: Effect.Effect<void>
  /** Waits until the process has exited. */
  readonly gone: Effect.Effect<void>
}

const program = fileURLToPath(new URL("./lockWorker.ts", import.meta.url))

/** Starts a process, which is killed when the scope closes. `ttl` is in milliseconds. */
export const start = (
  endpoint: string,
  work: Work,
  name: string,
  ttl: number
): Effect.Effect<Worker, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => spawn(endpoint, work, name, ttl)),
    (worker) => Effect.andThen(worker.signal("SIGKILL"), worker.gone)
  )

const spawn = (endpoint: string, work: Work, name: string, ttl: number): Worker => {
  const child = ChildProcess.spawn(process.execPath, [program, endpoint, work, name, `${ttl}`], {
    stdio: ["pipe", "pipe", "inherit"]
  })
  const lines: Array<Line & { readonly at: number }> = []
  const waiting = new Set<() => void>()
  const changed = () => waiting.forEach((check) => check())
  const until = <A>(look: () => A | undefined): Effect.Effect<A> =>
    Effect.callback((resume) => {
      const check = () => {
        const found = look()
        if (found !== undefined) resume(Effect.succeed(found))
      }
      waiting.add(check)
      check()
      return Effect.sync(() => waiting.delete(check))
    })
  Readline.createInterface({ input: child.stdout }).on("line", (line) => {
    lines.push({ ...JSON.parse(line) as Line, at: Date.now() })
    changed()
  })
  child.on("close", changed)
  const gone = Effect.asVoid(until(() => child.exitCode ?? child.signalCode ?? undefined))
  return {
    pid: child.pid!,
    lines,
    reported: (tag) =>
      until(() =>
        lines.find((line): line is Extract<Line & { at: number }, { readonly _tag: typeof tag }> => line._tag === tag)
      ),
    signal: (signal) => Effect.sync(() => void child.kill(signal)),
    stop: Effect.andThen(Effect.sync(() => child.stdin.end()), gone),
    gone
  }
}
