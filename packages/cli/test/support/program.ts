/**
 * The command line as users run it: bundled in one file, as a process of its own, with or without a terminal.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { execFileSync, spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"

const bundler = fileURLToPath(new URL("../../bundle.mjs", import.meta.url))

/** A temporary directory, removed with the scope. */
export const directory: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(process.env["EFFECT_KV_SCRATCH"] ?? Os.tmpdir(), "effect-kv-cli-"))),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true }))
)

/** The file of the command line, bundled once for a file of tests. */
export const Program: Context.Service<string, string> = Context.Service<string>("@effect-kv/cli/test/Program")

export const layer: Layer.Layer<string> = Layer.effect(
  Program,
  Effect.map(directory, (path) => {
    const file = Path.join(path, "effect-kv.js")
    Fs.writeFileSync(Path.join(path, "package.json"), `{"type":"module"}`)
    execFileSync(process.execPath, [bundler, file], { stdio: "inherit" })
    return file
  })
)

/** A process that was started, with what it has written to either stream. */
export interface Running {
  readonly pid: number
  readonly output: () => string
  /** What it has written to standard output alone. */
  readonly results: () => string
  /** Waits until the output matches, and returns the match. Dies with the output if that does not happen. */
  readonly until: (pattern: RegExp) => Effect.Effect<RegExpExecArray>
  /** Waits for the end, and returns the exit code: 128 and more if a signal ended it. */
  readonly end: Effect.Effect<number>
  readonly type: (text: string) => Effect.Effect<void>
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
}

const patience = "20 seconds"

/** Runs a program in a session of its own, so without a terminal, even if the tests have one. */
export const start = (
  command: string,
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>> = {}
): Effect.Effect<Running, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const { EFFECT_KV_RUN, PATH } = process.env
        const child = spawn(command, args, {
          detached: true,
          stdio: "pipe",
          // The mark by which `npm test` finds processes that were left behind.
          env: { PATH, SHELL: "/bin/sh", ...(EFFECT_KV_RUN === undefined ? {} : { EFFECT_KV_RUN }), ...env }
        })
        let output = ""
        let results = ""
        let code: number | undefined
        const waiting = new Set<() => void>()
        const wake = () => {
          for (const check of waiting) check()
        }
        for (const stream of [child.stdout, child.stderr]) {
          stream.setEncoding("utf8").on("data", (chunk: string) => {
            output += chunk
            wake()
          })
        }
        child.stdout.on("data", (chunk: string) => results += chunk)
        child.on("close", (ended, signal) => {
          code = signal === null ? ended ?? 0 : 128 + Os.constants.signals[signal]
          wake()
        })
        const until = <A>(what: string, check: () => A | undefined): Effect.Effect<A> =>
          Effect.callback<A>((resume) => {
            const attempt = () => {
              const found = check()
              if (found !== undefined) resume(Effect.succeed(found))
              else if (code !== undefined) {
                resume(Effect.die(new Error(`ended with ${code} before ${what}:\n${output}`)))
              }
            }
            waiting.add(attempt)
            attempt()
            return Effect.sync(() => waiting.delete(attempt))
          }).pipe(Effect.timeoutOrElse({
            duration: patience,
            orElse: () => Effect.die(new Error(`waited ${patience} for ${what}:\n${output}`))
          }))
        return { child, output: () => output, results: () => results, code: () => code, until }
      }),
      ({ child, code }) =>
        Effect.sync(() => {
          if (code() !== undefined) return
          try {
            process.kill(-child.pid!, "SIGKILL")
          } catch (error) {
            // It has ended, and its exit has not been reported yet.
            if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error
          }
        })
    ),
    ({ child, code, output, results, until }): Running => ({
      pid: child.pid!,
      output,
      results,
      until: (pattern) => until(`${pattern}`, () => pattern.exec(output()) ?? undefined),
      end: until("its end", code),
      type: (text) => Effect.sync(() => child.stdin.write(text)),
      signal: (signal) => Effect.sync(() => child.kill(signal))
    })
  )

/** Runs a shell command in a terminal of 24 lines and 80 columns. What is typed there is echoed. */
export const inTerminal = (
  command: string,
  env: Readonly<Record<string, string>> = {}
): Effect.Effect<Running, never, Scope.Scope> =>
  start("script", ["--quiet", "--return", "--command", `stty rows 24 cols 80; exec ${command}`, "/dev/null"], env)

/** What Ctrl-C sends to a terminal. */
export const ctrlC = "\u0003"
