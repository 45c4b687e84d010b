/**
 * The program that gives tests a real terminal: `script` of util-linux, which every Debian, Ubuntu and Fedora has. Node
 * cannot open a terminal without native code.
 *
 * Without it the tests named `*.terminal.test.ts` do not run, and `npm test` says so in its summary. With `CI=true` that
 * is a failure.
 */
import { spawned } from "./exec.mjs"
import { report, Stop } from "./progress.mjs"

/** The variable by which the tests find the program. */
const variable = "EFFECT_KV_SCRIPT"

const howToAdd =
  "Install `script` of util-linux (Debian: bsdutils, Fedora: util-linux-script, Alpine: util-linux-misc)."

/**
 * The variable with the program, or nothing if this machine has none.
 *
 * @returns {Promise<Record<string, string>>}
 */
export const terminalVariable = async () => {
  const said = await spawned("script", ["--version"], { capture: true }).catch(() => undefined)
  if (said?.code === 0 && said.output.includes("util-linux")) return { [variable]: "script" }
  const absent = new Stop(`this machine has no terminal for tests. ${howToAdd}`)
  if (process.env.CI === "true") throw absent
  report(absent)
  return {}
}

/** For the summary: what did not run, and how to add it. */
export const absentTerminal = (variables) =>
  variables[variable] ? [] : [`not run: the command line in a terminal. ${howToAdd}`]
