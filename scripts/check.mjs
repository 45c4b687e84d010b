/** The `npm run check` command: runs format, lint and types, all three even if one fails. */
import { report, step } from "./lib/progress.mjs"
import { format, lint, types } from "./lib/static.mjs"

for (const [title, check] of Object.entries({ format, lint, types })) {
  await step(title, check).catch((error) => {
    report(error)
    process.exitCode = 1
  })
}
