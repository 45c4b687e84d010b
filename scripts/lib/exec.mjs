/** Child processes: `capture` runs them quietly, `run` gives them the terminal. */
import { spawn } from "node:child_process"
import { Stop } from "./progress.mjs"

/** @type {ReadonlyArray<NodeJS.Signals>} */
const forwarded = ["SIGINT", "SIGTERM", "SIGHUP"]

/** A terminal sends Ctrl-C to the child as well, and many programs treat a second one as "at once". */
const isSent = (signal) => signal === "SIGINT" && process.stdin.isTTY

/**
 * Runs a command and waits for it. With `capture` its output is collected, otherwise it goes to the terminal. A signal
 * sent to this process is passed to the child, and this process waits for it, so nothing is left behind.
 *
 * @param {string} command
 * @param {ReadonlyArray<string>} args
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv, capture?: boolean }} [options]
 * @returns {Promise<{ code: number, output: string }>}
 */
export const spawned = (command, args, options = {}) =>
  new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: options.env ?? process.env,
      stdio: options.capture ? ["ignore", "pipe", "pipe"] : "inherit"
    })
    let output = ""
    child.stdout?.on("data", (chunk) => (output += chunk))
    child.stderr?.on("data", (chunk) => (output += chunk))
    const forward = (signal) => isSent(signal) || child.kill(signal)
    for (const signal of forwarded) process.on(signal, forward)
    const done = () => {
      for (const signal of forwarded) process.off(signal, forward)
    }
    child.on("error", (/** @type {NodeJS.ErrnoException} */ error) => {
      done()
      reject(error.code === "ENOENT" ? new Stop(`The command \`${command}\` was not found.`) : error)
    })
    child.on("close", (code, signal) => {
      done()
      resolve({ code: code ?? (signal === "SIGINT" ? 130 : 143), output })
    })
  })

/** The output of a command that must succeed. */
export const capture = async (command, args, options) => {
  const { code, output } = await spawned(command, args, { ...options, capture: true })
  if (code !== 0) throw new Stop(`\`${[command, ...args].join(" ")}\` failed (exit code ${code}):\n${output}`)
  return output
}
