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

const cases = async (...args) => {
  const { code } = await spawned("vitest", ["run", "--reporter=dot", "--silent=passed-only", ...args], { cwd: root })
  if (code !== 0) throw new Stop("Cases failed, see above.")
}

const [minor] = providedMinors(process.env)

const steps = {
  format,
  lint,
  types,
  "API reference": checkApiReference,
  [`cases of core, of memory, and of conformance on etcd ${minor}`]: () =>
    cases(
      ...["core", "memory", "own-process", `etcd-${minor}`].flatMap((project) => ["--project", project]),
      "packages/core/test",
      "packages/memory/test",
      "packages/etcd/test/conformance.test.ts"
    )
}

for (const [title, check] of Object.entries(steps)) {
  await step(title, check).catch((error) => {
    report(error)
    process.exitCode = 1
  })
}
