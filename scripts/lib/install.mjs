/** Installs the workspace's dependencies exactly as in the lockfile. pnpm returns quickly if nothing changed. */
import { existsSync } from "node:fs"
import { join } from "node:path"
import { spawned } from "./exec.mjs"
import { root } from "./paths.mjs"
import { step, Stop } from "./progress.mjs"

const pnpmInstall = async (env) => {
  const { code, output } = await spawned("pnpm", ["install", "--frozen-lockfile"], {
    cwd: root,
    env: { ...env, CI: "true" }, // never ask, not even before replacing a node_modules of another shape
    capture: true
  })
  if (code !== 0) {
    throw new Stop(`pnpm install failed:\n${output}\nIf you changed dependencies, run: npm run pnpm -- install`)
  }
}

export const install = (env) =>
  existsSync(join(root, "node_modules", ".modules.yaml"))
    ? pnpmInstall(env)
    : step("dependencies from the lockfile", () => pnpmInstall(env))
