/** `npm run api`: writes the API reference in `docs/api`, which the static checks compare with the docstrings. */
import { writeApiReference } from "./lib/apiReference.mjs"
import { report, step } from "./lib/progress.mjs"
import { build } from "./lib/static.mjs"

try {
  await step("build", build)
  await step("API reference", writeApiReference)
} catch (error) {
  report(error)
  process.exitCode = 1
}
