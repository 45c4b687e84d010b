/** The static checks: format, lint and types. */
import { rmSync } from "node:fs"
import { join } from "node:path"
import { capture, spawned } from "./exec.mjs"
import { packages, root } from "./paths.mjs"
import { Stop } from "./progress.mjs"

const inRoot = async (command, ...args) => {
  await capture(command, args, { cwd: root })
}

export const format = async () => {
  const { code, output } = await spawned("dprint", ["check", "--list-different"], { cwd: root, capture: true })
  if (code !== 0) throw new Stop(`Not formatted (\`npm run format\` does it):\n${output}`)
}

export const lint = () => inRoot("oxlint", "--deny-warnings")

export const types = () => inRoot("tsc", "-b", "--pretty", "false")

export const build = () => inRoot("tsc", "-b", "tsconfig.build.json", "--pretty", "false")

/** Builds from an empty folder, so that output of a removed module is not published. */
export const cleanBuild = () => {
  for (const name of packages) {
    for (const output of ["dist", "build"]) {
      rmSync(join(root, "packages", name, output), { recursive: true, force: true })
    }
  }
  return build()
}
