#!/usr/bin/env node
/**
 * The program `effect-kv`: runs its arguments and ends with a documented exit code.
 */
import * as Exit from "effect/Exit"
import * as Runtime from "effect/Runtime"
import * as exitCodes from "./exitCodes.ts"
import * as program from "./program.ts"
import * as signals from "./signals.ts"

const ofProcess = signals.make()

const runMain = Runtime.makeRunMain(({ fiber }) => {
  let interruptedBy: signals.Ending | undefined
  const stop = ofProcess.listen((signal) => {
    interruptedBy = signal
    fiber.interruptUnsafe(fiber.id)
  })
  fiber.addObserver((exit) => {
    stop()
    const code = Exit.isSuccess(exit) ? Number(exit.value) : exitCodes.software
    process.exit(interruptedBy === undefined ? code : signals.exitCodeOf(interruptedBy))
  })
})

// A reader that has seen enough, such as `head`, closes the pipe.
process.stdout.on("error", ({ code }: NodeJS.ErrnoException) => {
  process.exit(code === "EPIPE" ? signals.exitCodeOf("SIGPIPE") : exitCodes.indeterminate)
})

runMain(program.run(ofProcess.signals), { disableErrorReporting: true })
