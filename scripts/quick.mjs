/**
 * The `npm run quick` command, for the inner loop: static checks, the cases of core and memory, and the conformance
 * suite on one etcd, all three even if one fails.
 */
import { checkApiReference } from "./lib/apiReference.mjs"
import { providedMinors } from "./lib/etcd.mjs"
import { spawned } from "./lib/exec.mjs"
import { root } from "./lib/paths.mjs"
import { report, step, Stop } from "./lib/progress.mjs"
import { format, lint, types } from "./lib/static.mjs"

const vitest = async (...args) => {
  const { code } = await spawned("vitest", ["run", "--reporter=dot", ...args], { cwd: root })
  if (code !== 0) throw new Stop("Cases failed, see above.")
}

const [minor] = providedMinors(process.env)

const steps = {
  format,
  lint,
  types,
  "API reference": checkApiReference,
  "cases of core and memory": () => vitest("--project", "core", "--project", "memory"),
  [`conformance on etcd ${minor}`]: () => vitest("--project", `etcd-${minor}`, "packages/etcd/test/conformance.test.ts")
}

for (const [title, check] of Object.entries(steps)) {
  await step(title, check).catch((error) => {
    report(error)
    process.exitCode = 1
  })
}
