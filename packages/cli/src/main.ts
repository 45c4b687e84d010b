#!/usr/bin/env node
/**
 * The program `effect-kv`: runs its arguments and ends with a documented exit code.
 */
import * as Exit from "effect/Exit"
import * as Runtime from "effect/Runtime"
import * as connection from "./connection.ts"
import * as exitCodes from "./exitCodes.ts"
import * as program from "./program.ts"
import * as signals from "./signals.ts"

const [major = 0, minor = 0] = process.versions.node.split(".").map(Number)
// npm and npx only warn about it. Without this, an old Node fails somewhere later, with a stack trace.
if (major < 22 || major === 22 && minor < 19) {
  process.stderr.write(`effect-kv: this is Node ${process.versions.node}; 22.19 or later is needed\n`)
  process.exit(exitCodes.software)
}

// Other users of the machine can see the arguments of a process.
const given = process.argv.slice(2)
const shown = connection.withoutPassword(given)
// A title cannot be longer than the arguments were, so it does not begin with two paths.
if (shown.some((argument, index) => argument !== given[index])) process.title = ["effect-kv", ...shown].join(" ")

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
