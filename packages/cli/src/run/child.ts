/**
 * Runs a command as a child process, with this process's standard streams, and sees to it that nothing of it is left when
 * it is interrupted.
 *
 * If a terminal controls this process, the command stays in its process group, so that it can use the terminal: keys such
 * as Ctrl-C and Ctrl-Z reach both. Otherwise the command leads a group of its own.
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { spawn } from "node:child_process"
import * as exitCodes from "../exitCodes.ts"
import * as output from "../output.ts"
import { type Ending, exitCodeOf, Signals } from "../signals.ts"
import * as processes from "./processes.ts"
import * as terminal from "./terminal.ts"

/** How to run a command. */
export interface Options {
  /** Variables that it gets besides those of this process. */
  readonly env: Readonly<Record<string, string>>
  /** Runs when the command is interrupted, and ends when it is to be killed. */
  readonly grace: Effect.Effect<void>
}

/** Runs the command and returns its exit code. Interruption ends it, first with SIGTERM, then with SIGKILL. */
export const run = (
  command: NonEmptyReadonlyArray<string>,
  { env, grace }: Options
): Effect.Effect<number, exitCodes.Exit, Signals> =>
  Effect.scoped(Effect.gen(function*() {
    const signals = yield* Signals
    const usesTerminal = terminal.isPresent()
    const child = yield* Effect.acquireRelease(
      start(command, env, usesTerminal),
      ({ exited, family }) => Deferred.isDoneUnsafe(exited) ? Effect.void : terminate(family, grace)
    )
    let isEnding = false
    yield* signals.receive((signal) => {
      isEnding = true
      if (usesTerminal && isKey(signal) && terminal.isForeground()) child.family.areGone() // the terminal has sent it
      else child.family.signal(signal)
    })
    const code = yield* Deferred.await(child.exited)
    // What a shell runs may need longer to end than the shell.
    if (isEnding) yield* untilGone(child.family)
    return code
  }))

/** Whether a key of the terminal sends the signal. */
const isKey = (signal: Ending): boolean => signal === "SIGINT" || signal === "SIGQUIT"

interface Child {
  readonly family: processes.Processes
  readonly exited: Deferred.Deferred<number>
}

const start = (
  [file, ...args]: NonEmptyReadonlyArray<string>,
  env: Readonly<Record<string, string>>,
  usesTerminal: boolean
): Effect.Effect<Child, exitCodes.Exit> =>
  Effect.callback<Child, NodeJS.ErrnoException>((resume) => {
    try {
      const child = spawn(file, args, {
        stdio: "inherit",
        env: { ...process.env, ...env },
        detached: !usesTerminal
      })
      const exited = Deferred.makeUnsafe<number>()
      child.once("error", (error) => resume(Effect.fail(error)))
      child.once("exit", (code, signal) => {
        Deferred.doneUnsafe(exited, Effect.succeed(signal === null ? code ?? 0 : exitCodeOf(signal)))
      })
      child.once("spawn", () => resume(Effect.succeed({ family: processes.of(child.pid!, !usesTerminal), exited })))
    } catch (error) {
      resume(Effect.fail(error as NodeJS.ErrnoException))
    }
  }).pipe(
    Effect.catch(({ code, message }) =>
      code === "ENOENT"
        ? ended(exitCodes.notFound, `the command ${JSON.stringify(file)} was not found`)
        : ended(exitCodes.notExecutable, `the command ${JSON.stringify(file)} could not be executed: ${message}`)
    )
  )

const ended = (code: number, message: string): Effect.Effect<never, exitCodes.Exit> =>
  Effect.andThen(output.progress(message), Effect.fail(new exitCodes.Exit({ code })))

const terminate = Effect.fnUntraced(function*(family: processes.Processes, grace: Effect.Effect<void>) {
  yield* output.progress("SIGTERM to the command")
  family.signal("SIGTERM")
  const isGone = yield* Effect.raceFirst(
    Effect.interruptible(Effect.as(untilGone(family), true)),
    Effect.interruptible(Effect.as(grace, false))
  )
  if (isGone) return
  yield* output.progress("the command has not ended: SIGKILL")
  yield* Effect.repeat(
    Effect.sync(() => {
      family.signal("SIGKILL")
      return family.areGone()
    }),
    { schedule: often, until: (isGone) => isGone }
  )
})

const often = Schedule.spaced("20 millis")

const untilGone = (family: processes.Processes): Effect.Effect<void> =>
  Effect.asVoid(Effect.repeat(Effect.sync(family.areGone), { schedule: often, until: (isGone) => isGone }))
