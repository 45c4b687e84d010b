/** The cases step: runs every test on every backend and counts the cases. */
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { providedMinors } from "./etcd.mjs"
import { spawned } from "./exec.mjs"
import { hasGoProgram } from "./goProgram.mjs"
import { root } from "./paths.mjs"
import { postgresProjects } from "./postgres.mjs"
import { Stop } from "./progress.mjs"

/** A backend without cases is a failure: an empty run proves nothing. */
const required = [
  "core",
  "memory",
  ...providedMinors(process.env).map((minor) => `etcd-${minor}`),
  ...postgresProjects(process.env),
  ...(hasGoProgram(process.env) ? ["interop"] : [])
]

const problems = (projects) => [
  ...required.filter((name) => !(projects[name]?.passed > 0)).map((name) => `no case ran on ${name}`),
  ...Object.entries(projects)
    .filter(([, { skipped }]) => skipped > 0)
    .map(([name, { skipped }]) => `${skipped} skipped on ${name}: a skipped case proves nothing`)
]

/**
 * Fills `counts` with the cases that ran, even if the run fails.
 *
 * @param {{ temporary: string, counts: { passed: number, failed: number, projects: Record<string, number> } }} options
 */
export const runCases = async ({ counts, temporary }) => {
  const file = join(temporary, "counts.json")
  const reporters = ["--reporter=default", `--reporter=${join(root, "scripts/lib/countReporter.mjs")}`]
  const { code } = await spawned("vitest", ["run", ...reporters], {
    cwd: root,
    env: { ...process.env, EFFECT_KV_COUNTS: file }
  })
  if (!existsSync(file)) throw new Stop(`vitest ended with exit code ${code} before any test had run.`)
  const { errors, projects } = JSON.parse(readFileSync(file, "utf8"))
  for (const [name, { failed, passed }] of Object.entries(projects)) {
    counts.projects[name] = passed + failed
    counts.passed += passed
    counts.failed += failed
  }
  const found = problems(projects)
  if (found.length > 0) throw new Stop(found.join("\n"))
  if (code !== 0 && counts.failed === 0) throw new Stop(`vitest reported ${errors} errors outside of the cases.`)
}
