/**
 * Type check of code that a test extracted from documents or docstrings into a folder of the workspace.
 */
import { spawnSync } from "node:child_process"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../../..", import.meta.url))

const configuration = {
  extends: join(root, "tsconfig.base.json"),
  include: ["**/*.ts"],
  compilerOptions: {
    types: ["node"],
    noEmit: true,
    composite: false,
    incremental: false,
    declaration: false,
    declarationMap: false,
    sourceMap: false,
    rewriteRelativeImportExtensions: false,
    allowImportingTsExtensions: true,
    noUnusedLocals: false,
    noUnusedParameters: false
  }
}

/** What the compiler may take on a busy machine, in milliseconds. */
export const compilerTimeout = 180_000

/** What the compiler reports about the modules in a folder, a line for each. */
export const typeCheck = (folder: string): ReadonlyArray<string> => {
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(configuration))
  const tsc = join(root, "node_modules", ".bin", "tsc")
  const { error, status, stderr, stdout } = spawnSync(tsc, ["-p", folder, "--pretty", "false"], { encoding: "utf8" })
  if (error !== undefined) throw error
  const reported = `${stdout}${stderr}`.split("\n").filter((line) => line.trim() !== "")
  if (status !== 0 && reported.length === 0) throw new Error(`tsc ended with exit code ${status} and no message`)
  return reported
}
