/**
 * Node and pnpm in exact versions from the npm registry. Nothing is installed globally; only Node 20 and npm are
 * required.
 *
 * Install scripts are off: npm may reject them, and neither package needs them. Node comes from the package for this
 * platform, which holds the binary. pnpm's command finds the binary in its own dependency.
 */
import { writeFileSync } from "node:fs"
import { delimiter, dirname, join } from "node:path"
import { cached } from "./cached.mjs"
import { capture, spawned } from "./exec.mjs"
import { cache, root } from "./paths.mjs"
import { step, Stop } from "./progress.mjs"

export const nodeVersion = "24.21.0"
export const pnpmVersion = "12.21.0"

const platform = `${process.platform === "win32" ? "win" : process.platform}-${process.arch}`
const nodePackage = platform === "darwin-arm64" ? `node-bin-${platform}` : `node-${platform}`
const bin = (directory) => join(directory, "node_modules", ".bin")

const isSupported = (version) => {
  const [major, minor] = version.split(".").map(Number)
  return major > 22 || (major === 22 && minor >= 19)
}

const provide = (name, version, npmPackage, env) =>
  cached(
    join(cache, "toolchain", `${name}-${version}-${platform}`),
    (directory) =>
      step(`${name} ${version} from the npm registry`, async () => {
        writeFileSync(join(directory, "package.json"), "{ \"private\": true }\n")
        const flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
        await capture("npm", ["install", "--prefix", directory, ...flags, `${npmPackage}@${version}`], {
          cwd: directory
        })
        const said = await spawned(join(bin(directory), name), ["--version"], { cwd: directory, env, capture: true })
        if (said.code !== 0 || said.output.trim().replace(/^v/, "") !== version) {
          throw new Stop(
            `${name} ${version} from the npm registry does not run on ${platform}:\n${said.output}\n` +
              `Install Node >= 22.19${name === "node" ? "" : ` and pnpm ${pnpmVersion}`} yourself and run this again.`
          )
        }
      })
  )

const installedPnpm = async (env) => {
  const said = await spawned("pnpm", ["--version"], { cwd: dirname(root), env, capture: true }).catch(() => undefined)
  return said?.code === 0 && said.output.trim() === pnpmVersion
}

/** The environment with Node >= 22.19 and the exact pnpm, for all child processes. */
export const toolchain = async () => {
  const withPath = (directory, env) => ({ ...env, PATH: `${directory}${delimiter}${env.PATH}` })
  const node = isSupported(process.versions.node)
    ? dirname(process.execPath)
    : bin(await provide("node", nodeVersion, nodePackage, process.env))
  const env = withPath(node, process.env)
  if (await installedPnpm(env)) return env
  return withPath(bin(await provide("pnpm", pnpmVersion, "pnpm", env)), env)
}
