/**
 * The `npm test` command: everything that must hold before a change is complete. All steps run even if one fails, and
 * the output of failed steps is shown. The last line counts the cases; a failed step counts as one.
 */
import { writeFileSync } from "node:fs"
import { checkApiReference } from "./lib/apiReference.mjs"
import { runCases } from "./lib/cases.mjs"
import { checkConsumer } from "./lib/consumer.mjs"
import { etcdVersions } from "./lib/etcd.mjs"
import { absentGoProgram } from "./lib/goProgram.mjs"
import { checkImportDirection } from "./lib/importDirection.mjs"
import { watchLeftovers } from "./lib/leftovers.mjs"
import { absentPgBouncer } from "./lib/pgbouncer.mjs"
import { absentPostgres } from "./lib/postgres.mjs"
import { report, step } from "./lib/progress.mjs"
import { absentPromtool } from "./lib/promtool.mjs"
import { absentSmallDisk } from "./lib/smallDisk.mjs"
import { cleanBuild, format, lint, types } from "./lib/static.mjs"
import { absentTerminal } from "./lib/terminal.mjs"

const began = performance.now()
const counts = { passed: 0, failed: 0, projects: {} }
const failedSteps = []
const leftovers = await watchLeftovers()

const check = (title, work) =>
  step(title, work).catch((error) => {
    failedSteps.push(title)
    report(error)
  })

try {
  await check("format", format)
  await check("lint", lint)
  await check("the direction of imports is checked", () => checkImportDirection(leftovers.temporary))
  await check("build", cleanBuild)
  await check("types", types)
  await check("API reference", checkApiReference)
  await check("cases", () => runCases({ temporary: leftovers.temporary, counts }))
  await check("packed packages in an empty project", () => checkConsumer(leftovers.temporary))
  await check("nothing left behind", leftovers.check)
} finally {
  leftovers.remove()
}

const total = `${counts.passed} passed, ${counts.failed + failedSteps.length} failed`
const etcd = await etcdVersions(process.env)
process.stdout.write(
  [
    "",
    `cases run: ${Object.entries(counts.projects).map(([name, count]) => `${name} ${count}`).join(" · ")} (${
      etcd.present.join(", ")
    })`,
    ...etcd.absent,
    ...absentGoProgram(process.env),
    ...absentPostgres(process.env),
    ...absentPgBouncer(process.env),
    ...absentSmallDisk(process.env),
    ...absentTerminal(process.env),
    ...absentPromtool(process.env),
    ...(failedSteps.length === 0 ? [] : [`failed: ${failedSteps.join(", ")}`]),
    `took ${((performance.now() - began) / 1000).toFixed(0)} s`,
    ...(process.env.EFFECT_KV_TOTAL ? [] : [total]), // .ci/run prints it, after everything npm has to say
    ""
  ].join("\n")
)
if (process.env.EFFECT_KV_TOTAL) writeFileSync(process.env.EFFECT_KV_TOTAL, `${total}\n`)
process.exitCode = counts.failed + failedSteps.length === 0 ? 0 : 1
