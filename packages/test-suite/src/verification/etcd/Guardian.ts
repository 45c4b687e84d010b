/**
 * A guardian of processes and their directory, which are removed however the owner ends.
 *
 * The guardian is a small shell process that owns the directory and reads from a pipe to this process. When the pipe is
 * closed, it kills the processes started through it and removes the directory. The scope closes the pipe, and the kernel does
 * if this process is killed, crashes or exits without closing its scopes. The guardian runs in its own session, so that
 * Ctrl-C at a terminal does not reach it.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as Crypto from "node:crypto"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { realTime } from "../internal/realTime.ts"

/** The guardian or one of its processes could not be started. */
export class GuardianError extends Data.TaggedError("GuardianError")<{
  readonly message: string
  readonly cause?: unknown
}> {}

/** A process that is killed with its guardian. */
export interface Guarded {
  readonly pid: number
  readonly stdin: ChildProcess.ChildProcess["stdin"]
  readonly stdout: ChildProcess.ChildProcess["stdout"]
  readonly stderr: ChildProcess.ChildProcess["stderr"]
  /** How the process ended, `undefined` while it runs. */
  readonly ended: () => Ended | undefined
  /** Waits until the process has ended. */
  readonly end: Effect.Effect<Ended>
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
}

export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface Guardian {
  /** The directory of the guardian, removed with it. */
  readonly directory: string
  readonly spawn: (options: {
    readonly command: string
    readonly args: ReadonlyArray<string>
    readonly env: Readonly<Record<string, string>>
    readonly stdio: ReadonlyArray<"pipe" | "ignore" | number>
  }) => Effect.Effect<Guarded, GuardianError>
}

/**
 * The guardian creates the directory, and renames it before it lists the processes to kill. A process writes its id into the
 * directory before it executes its program (see `startScript`), and exits if it cannot. So each process is either listed here
 * or never starts. An empty file is about to be written.
 */
const guardianScript = `
trap '' INT TERM HUP
dir=$1
mkdir -m 700 "$dir" && mkdir "$dir/pids" || exit 1
echo ready
while read -r line; do :; done
mv "$dir" "$dir.gone" || exit 0
for file in "$dir.gone"/pids/*; do
  [ -f "$file" ] || continue
  for attempt in 1 2 3 4 5; do
    read -r pid < "$file" && kill -9 "$pid" 2>/dev/null && break
    [ -s "$file" ] && break
    sleep 0.1
  done
done
for attempt in 1 2 3 4 5 6 7 8 9 10; do
  rm -rf "$dir.gone" 2>/dev/null && exit 0
  sleep 0.1
done
`

const startScript = `echo $$ > "$1" || exit 97; shift; exec "$@"`

/**
 * The environment of processes: only the path, and the mark by which a test run finds processes it left behind. A stray
 * `ETCD_...` or proxy variable must not change a test.
 */
const baseEnv = (): Record<string, string> => ({
  PATH: process.env["PATH"] ?? "/usr/local/bin:/usr/bin:/bin",
  ...(process.env["EFFECT_KV_RUN"] === undefined ? {} : { EFFECT_KV_RUN: process.env["EFFECT_KV_RUN"] })
})

/** A directory in memory if the system has one, because etcd waits for its disk at every write. */
const parentDirectory = (): string => {
  const scratch = process.env["EFFECT_KV_SCRATCH"]
  if (scratch !== undefined) return scratch
  try {
    Fs.accessSync("/dev/shm", Fs.constants.W_OK)
    return "/dev/shm"
  } catch {
    return Os.tmpdir()
  }
}

export const make = (prefix: string): Effect.Effect<Guardian, GuardianError, Scope.Scope> =>
  Effect.map(Effect.acquireRelease(start(prefix), (running) => realTime(close(running))), ({ directory, spawn }) => ({
    directory,
    spawn
  }))

interface Running extends Guardian {
  readonly live: ReadonlySet<Guarded>
  readonly child: ChildProcess.ChildProcess
}

const start = (prefix: string): Effect.Effect<Running, GuardianError> =>
  Effect.callback((resume) => {
    const directory = Path.join(parentDirectory(), `${prefix}-${process.pid}-${Crypto.randomBytes(6).toString("hex")}`)
    const child = ChildProcess.spawn("/bin/sh", ["-c", guardianScript, "effect-kv-guardian", directory], {
      stdio: ["pipe", "pipe", "ignore"],
      detached: true,
      env: baseEnv()
    })
    const failed = (cause?: unknown) =>
      resume(Effect.fail(new GuardianError({ message: `could not create ${directory}`, cause })))
    child.on("error", failed)
    child.once("exit", () => failed())
    // Ending the pipe of a guardian that was killed must not crash this process.
    child.stdin.on("error", () => {})
    child.stdout.once("data", () => {
      child.stdout.destroy()
      child.unref()
      // The pipe is a socket, which the types do not show. It must not keep this process alive.
      if ("unref" in child.stdin && typeof child.stdin.unref === "function") child.stdin.unref()
      const live = new Set<Guarded>()
      resume(Effect.succeed({ directory, live, child, spawn: spawnIn(directory, live) }))
    })
  })

const spawnIn = (directory: string, live: Set<Guarded>): Guardian["spawn"] => (options) =>
  Effect.callback((resume) => {
    const pidFile = Path.join(directory, "pids", Crypto.randomBytes(6).toString("hex"))
    const failed = (cause: unknown) =>
      resume(Effect.fail(new GuardianError({ message: `could not start ${options.command}`, cause })))
    let child: ChildProcess.ChildProcess
    try {
      child = ChildProcess.spawn(
        "/bin/sh",
        ["-c", startScript, "effect-kv-start", pidFile, options.command, ...options.args],
        { stdio: [...options.stdio], detached: true, env: { ...baseEnv(), ...options.env } }
      )
    } catch (cause) {
      // Invalid arguments, such as a key with a NUL.
      return failed(cause)
    }
    child.once("error", failed)
    child.stdin?.on("error", () => {})
    child.once("spawn", () => {
      let ended: Ended | undefined
      const waiting = new Set<(ended: Ended) => void>()
      const guarded: Guarded = {
        pid: child.pid!,
        stdin: child.stdin,
        stdout: child.stdout,
        stderr: child.stderr,
        ended: () => ended,
        end: Effect.callback((resumeEnd) => {
          if (ended !== undefined) return resumeEnd(Effect.succeed(ended))
          const listener = (end: Ended) => resumeEnd(Effect.succeed(end))
          waiting.add(listener)
          return Effect.sync(() => waiting.delete(listener))
        }),
        signal: (signal) => Effect.sync(() => void child.kill(signal))
      }
      live.add(guarded)
      child.once("exit", (code, signal) => {
        ended = { code, signal }
        live.delete(guarded)
        // From now on another process may get this id.
        Fs.rmSync(pidFile, { force: true })
        for (const listener of waiting) listener(ended)
        waiting.clear()
      })
      resume(Effect.succeed(guarded))
    })
  })

const close = Effect.fnUntraced(function*(running: Running) {
  const processes = [...running.live]
  for (const guarded of processes) yield* guarded.signal("SIGKILL")
  yield* Effect.forEach(processes, (guarded) => guarded.end, { concurrency: "unbounded" }).pipe(
    Effect.timeoutOption("5 seconds")
  )
  yield* endOf(running.child).pipe(Effect.timeoutOption("5 seconds"))
  // Something is left only if the guardian itself was killed.
  yield* Effect.sync(() => {
    for (const directory of [running.directory, `${running.directory}.gone`]) {
      Fs.rmSync(directory, { recursive: true, force: true, maxRetries: 5 })
    }
  })
})

const endOf = (child: ChildProcess.ChildProcess): Effect.Effect<void> =>
  Effect.callback((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
    child.ref()
    child.once("exit", () => resume(Effect.void))
    child.stdin?.end()
  })
