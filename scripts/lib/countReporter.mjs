/** A vitest reporter that writes how many cases passed, failed and were skipped in each project, for `npm test`. */
import { writeFileSync } from "node:fs"

export default class CountReporter {
  onTestRunEnd(modules, errors) {
    const projects = {}
    for (const module of modules) {
      const count = (projects[module.project.name] ??= { passed: 0, failed: 0, skipped: 0 })
      for (const test of module.children.allTests()) {
        const state = test.result().state
        count[state === "passed" || state === "failed" ? state : "skipped"]++
      }
      // A file that could not be loaded, or whose hooks failed, has no failing case.
      if (module.state() === "failed" && module.errors().length > 0) count.failed++
    }
    writeFileSync(process.env.EFFECT_KV_COUNTS ?? "/dev/null", JSON.stringify({ projects, errors: errors.length }))
  }
}
