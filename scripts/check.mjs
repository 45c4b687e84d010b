/** `npm run check`: format, lint, types and the API reference. Each runs even if one before it fails. */
import { checkApiReference } from "./lib/apiReference.mjs"
import { report, step } from "./lib/progress.mjs"
import { format, lint, types } from "./lib/static.mjs"

for (const [title, check] of Object.entries({ format, lint, types, "API reference": checkApiReference })) {
  await step(title, check).catch((error) => {
    report(error)
    process.exitCode = 1
  })
}
