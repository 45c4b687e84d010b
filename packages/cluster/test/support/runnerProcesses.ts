/**
 * The processes of `programs/runner.ts`: starting, stopping and reading them.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as Net from "node:net"
import * as Readline from "node:readline"
import { fileURLToPath } from "node:url"

/** A line of a process's report. */
export type Line =
  | { readonly _tag: "Started" }
  | { readonly _tag: "Renewed" }
  | { readonly _tag: "Shards"; readonly count: number }
  | { readonly _tag: "Singleton"; readonly runs: boolean }
  | { readonly _tag: "Done"; readonly type: "fenced" | "unfenced"; readonly id: string; readonly how: string }

export type TimedLine = Line & { readonly at: number }

export type Done = Extract<TimedLine, { readonly _tag: "Done" }>

export interface RunnerProcess {
  readonly port: number
  /** All reported lines, with the time at which they were written. */
  readonly lines: ReadonlyArray<TimedLine>
  /** Waits until a line that was written after `since` satisfies the predicate. */
  readonly reported: <A>(look: (lines: ReadonlyArray<TimedLine>) => A | undefined) => Effect.Effect<A>
  /** Waits until it owns so many shards; how many milliseconds after `since` that was. */
  readonly owns: (count: (owned: number) => boolean, since: number) => Effect.Effect<number>
  readonly command: (line: string) => Effect.Effect<void>
  /** Lets the runner begin. Its process has imported its modules meanwhile, and waits. */
  readonly begin: Effect.Effect<void>
  /** Sends the signal, and returns the time. */
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<number>
  /** Waits until it has exited. */
  readonly gone: Effect.Effect<void>
  /** What it has logged. */
  readonly log: () => string
}

/** A process compiles its modules once for all: half of the CPU time of its start. */
const compileCache = fileURLToPath(new URL("../../../../.cache/compile", import.meta.url))

const program = fileURLToPath(new URL("../programs/runner.ts", import.meta.url))

/** A port that was free a moment ago. */
export const freePort: Effect.Effect<number> = Effect.callback((resume) => {
  const server = Net.createServer()
  server.listen(0, "127.0.0.1", () => {
    const address = server.address()
    server.close(() => resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0)))
  })
})

/** Starts a process, whose runner waits until it may begin. It is killed when the scope closes. */
export const start = (options: {
  readonly endpoint: string
  readonly prefix: string
  readonly shards: number
  readonly port?: number
  /** Default: `short`, for a failover within 6 seconds. */
  readonly intervals?: "short" | "default"
}): Effect.Effect<RunnerProcess, never, Scope.Scope> =>
  Effect.flatMap(options.port === undefined ? freePort : Effect.succeed(options.port), (port) =>
    Effect.acquireRelease(
      Effect.sync(() =>
        spawn(port, [options.endpoint, options.prefix, `${port}`, `${options.shards}`, options.intervals ?? "short"])
      ),
      (runner, exit) =>
        runner.signal("SIGKILL").pipe(
          Effect.andThen(runner.gone),
          Effect.andThen(Exit.isFailure(exit) ? Effect.sync(() => process.stderr.write(runner.log())) : Effect.void)
        )
    ))

const spawn = (port: number, args: ReadonlyArray<string>): RunnerProcess => {
  const child = ChildProcess.spawn(process.execPath, [program, ...args], {
    stdio: "pipe",
    env: { ...process.env, NODE_COMPILE_CACHE: compileCache }
  })
  const logged: Array<string> = []
  child.stderr.setEncoding("utf8").on("data", (text: string) => logged.push(text))
  const lines: Array<TimedLine> = []
  const waiting = new Set<() => void>()
  const changed = () => waiting.forEach((check) => check())
  const until = <A>(look: () => A | undefined): Effect.Effect<A> =>
    Effect.callback((resume) => {
      const check = () => {
        const found = look()
        if (found === undefined) return
        waiting.delete(check)
        resume(Effect.succeed(found))
      }
      waiting.add(check)
      check()
      return Effect.sync(() => waiting.delete(check))
    })
  // A process that was killed no longer reads.
  child.stdin.on("error", () => undefined)
  Readline.createInterface({ input: child.stdout }).on("line", (line) => {
    lines.push(JSON.parse(line) as TimedLine)
    changed()
  })
  child.on("close", changed)
  const reported: RunnerProcess["reported"] = (look) => until(() => look(lines))
  return {
    port,
    lines,
    reported,
    owns: (count, since) =>
      reported((lines) => {
        const owned = lines.filter((line) => line._tag === "Shards")
        const found = owned.find((line, index) => count(line.count) && (line.at >= since || index === owned.length - 1))
        return found === undefined ? undefined : Math.max(0, found.at - since)
      }),
    command: (line) => Effect.sync(() => void child.stdin.write(`${line}\n`)),
    begin: Effect.sync(() => void child.stdin.write("begin\n")),
    signal: (signal) =>
      Effect.sync(() => {
        child.kill(signal)
        return Date.now()
      }),
    gone: Effect.asVoid(until(() => child.exitCode ?? child.signalCode ?? undefined)),
    log: () => logged.join("")
  }
}
