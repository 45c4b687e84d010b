/**
 * A directory and processes that do not outlive their owner, however it ends.
 *
 * The guardian is a small shell process that owns the directory and reads from a pipe whose other end this process
 * holds. When that end is closed (by the scope, or by the kernel because this process was killed, crashed or
 * exited without closing its scopes) it kills what was started through it and removes the directory. It runs in a session
 * of its own, so that Ctrl-C at a terminal does not reach it.
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

/** The guardian or a process it was to look after could not be started. */
export class GuardianError extends Data.TaggedError("GuardianError")<{
  readonly message: string
  readonly cause?: unknown
}> {}

/** A process that dies with its guardian. */
export interface Guarded {
  readonly pid: number
  readonly stdin: ChildProcess.ChildProcess["stdin"]
  readonly stdout: ChildProcess.ChildProcess["stdout"]
  readonly stderr: ChildProcess.ChildProcess["stderr"]
  /** How it ended, or `undefined` while it has not. */
  readonly ended: () => Ended | undefined
  /** Waits for its end. */
  readonly end: Effect.Effect<Ended>
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
}

export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface Guardian {
  /** Its directory; gone when the guardian is. */
  readonly directory: string
  readonly spawn: (options: {
    readonly command: string
    readonly args: ReadonlyArray<string>
    readonly env: Readonly<Record<string, string>>
    readonly stdio: ReadonlyArray<"pipe" | "ignore" | number>
  }) => Effect.Effect<Guarded, GuardianError>
}

/**
 * The directory is created by the guardian and moved away in one step before it looks for processes to kill. A process
 * writes its id into the directory before it becomes what it is to be (see `startScript`), and gives up if it cannot: so
 * each is either seen here or never starts. A file that is empty is about to be written to.
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
 * Nothing of this process's environment but the path, and the mark by which a test run finds what it left behind: a stray
 * `ETCD_...` or proxy variable must not change what a test means.
 */
const baseEnv = (): Record<string, string> => ({
  PATH: process.env["PATH"] ?? "/usr/local/bin:/usr/bin:/bin",
  ...(process.env["EFFECT_KV_RUN"] === undefined ? {} : { EFFECT_KV_RUN: process.env["EFFECT_KV_RUN"] })
})

/** Memory rather than a disk where the system has it: etcd waits for its disk at every write. */
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
    // Writing to a guardian that was killed must not crash the process. Nothing is ever written, but its end is.
    child.stdin.on("error", () => {})
    child.stdout.once("data", () => {
      child.stdout.destroy()
      child.unref()
      // A pipe is a socket here; the types only know the stream. It must not keep the process alive.
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
      // Arguments that no process can be given, such as a key with a NUL.
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
        // The id may be given to another process from now on.
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
  // Only if the guardian itself was killed is there anything left.
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
