/**
 * The `promtool` of Prometheus, which runs the unit tests of the alerting rules.
 *
 * Only a machine that has it runs them. To build it takes minutes and two gigabytes, so nothing builds it, and a CI
 * without it does not fail.
 */
import { spawned } from "./exec.mjs"

/** The variable by which the tests find the program. */
const variable = "EFFECT_KV_PROMTOOL"

/**
 * The variable with the program, or nothing if this machine has none.
 *
 * @returns {Promise<Record<string, string>>}
 */
export const promtoolVariable = async () => {
  const program = process.env[variable] || "promtool"
  const said = await spawned(program, ["--version"], { capture: true }).catch(() => undefined)
  return said?.code === 0 ? { [variable]: program } : {}
}

/** For the summary: what did not run, and how to add it. */
export const absentPromtool = (variables) =>
  variables[variable]
    ? []
    : [`not run: the tests of the alerting rules. Put promtool of Prometheus into PATH, or name it in ${variable}.`]
