/**
 * All commands as one program. A failure becomes a message on standard error and an exit code.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as CliConfig from "effect/cli/CliConfig"
import * as CliError from "effect/cli/CliError"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as GlobalFlag from "effect/cli/GlobalFlag"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import { delete_ } from "./commands/delete.ts"
import { doctor } from "./commands/doctor.ts"
import { elect } from "./commands/elect.ts"
import { get } from "./commands/get.ts"
import { elections, locks, members, sessions } from "./commands/listings.ts"
import { lock } from "./commands/lock.ts"
import { ls } from "./commands/ls.ts"
import { once } from "./commands/once.ts"
import { put } from "./commands/put.ts"
import { release } from "./commands/release.ts"
import { semaphore } from "./commands/semaphore.ts"
import { txn } from "./commands/txn.ts"
import { watch } from "./commands/watch.ts"
import * as exitCodes from "./exitCodes.ts"
import * as help from "./help.ts"
import { forPeople } from "./logger.ts"
import * as output from "./output.ts"
import { root } from "./root.ts"
import { Signals } from "./signals.ts"
import { version } from "./version.ts"

/** The command `effect-kv` with its subcommands. */
export const command = root.pipe(
  Command.withSubcommands([
    { group: "Run", commands: [lock, elect, semaphore, once] },
    { group: "See", commands: [locks, elections, members, sessions, doctor] },
    { group: "Free", commands: [release] },
    { group: "Keys", commands: [get, put, delete_, ls, watch, txn] }
  ])
)

/** Runs the command with the arguments of the process, and returns the exit code. */
export const run = (signals: Signals): Effect.Effect<number> =>
  Effect.suspend(() => exitCode).pipe(
    Effect.provide(Layer.merge(NodeServices.layer, layer)),
    Effect.provideService(Signals, signals)
  )

/** How commands log, show help and parse. */
export const layer = Layer.mergeAll(
  Logger.layer([forPeople]),
  Layer.succeed(CliOutput.Presenter, help.presenter),
  CliConfig.layer({ builtIns: [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.Completions, GlobalFlag.LogLevel] })
)

const reported = (cause: Cause.Cause<exitCodes.Failure | CliError.CliError>): Effect.Effect<number> => {
  if (Cause.hasInterruptsOnly(cause)) return Effect.interrupt
  return Option.match(Cause.findErrorOption(cause), {
    onNone: () =>
      Effect.as(Console.error(`effect-kv: a fault of effect-kv itself:\n${Cause.pretty(cause)}`), exitCodes.software),
    onSome: (failure) => {
      // The presenter has shown what is wrong with the arguments.
      if (CliError.isCliError(failure)) return Effect.succeed(exitCodes.usage)
      if (failure._tag === "Exit") return Effect.succeed(failure.code)
      return Effect.as(output.failure(failure), exitCodes.of(failure))
    }
  })
}

/** Runs the command with the arguments and streams of `Stdio`, and returns the exit code. */
export const exitCode = Command.run(command, { version }).pipe(
  Effect.as(exitCodes.ok),
  Effect.catchCause(reported)
)
