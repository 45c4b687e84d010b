/**
 * The etcd binaries (`etcd` and `etcdctl`) that the tests run against, one folder for each minor version:
 *
 * 1. a folder named by `EFFECT_KV_ETCD_35` or `EFFECT_KV_ETCD_34`, by `ETCD_BIN` (one or several, separated as in
 *    PATH), or on PATH, matched by what `etcd --version` says;
 * 2. what an earlier run cached in `.cache/etcd/<minor>`;
 * 3. the packages of the machine's own Debian source (see `debian.mjs`), unpacked into that cache, not installed.
 */
import { existsSync, rmSync } from "node:fs"
import { delimiter, join } from "node:path"
import { cached } from "./cached.mjs"
import { debianBinaries } from "./debian.mjs"
import { spawned } from "./exec.mjs"
import { cache } from "./paths.mjs"
import { step, Stop } from "./progress.mjs"

/** Debian suites that carry (or carried) a minor version, the best first. */
const wanted = [
  { minor: "3.5", variable: "EFFECT_KV_ETCD_35", suites: ["forky", "sid", "trixie"] },
  { minor: "3.4", variable: "EFFECT_KV_ETCD_34", suites: ["bookworm"] }
]

/** The version of the etcd in a folder, if both binaries are there and run. */
const versionIn = async (directory) => {
  if (!existsSync(join(directory, "etcd")) || !existsSync(join(directory, "etcdctl"))) return undefined
  const said = await spawned(join(directory, "etcd"), ["--version"], { capture: true }).catch(() => undefined)
  return said?.code === 0 ? /etcd Version: (\S+)/.exec(said.output)?.[1] : undefined
}

const isMinor = (version, minor) => version?.startsWith(`${minor}.`) === true

const folders = (...lists) => lists.flatMap((list) => list?.split(delimiter).filter(Boolean) ?? [])

/** Debian's packages of one minor version, from the first suite that has it; a cache that does not run is replaced. */
const fromDebian = async ({ minor, suites }) => {
  const directory = join(cache, "etcd", minor)
  if (!isMinor(await versionIn(directory), minor)) rmSync(directory, { recursive: true, force: true })
  return cached(directory, (directory) =>
    step(`etcd ${minor} from this machine's Debian package source`, async () => {
      const tried = []
      for (const suite of suites) {
        const found = await debianBinaries({ suite, packages: ["etcd-server", "etcd-client"], directory })
        const version = found.ok ? await versionIn(directory) : undefined
        if (isMinor(version, minor)) return
        tried.push(`  ${suite}: ${found.ok ? `has etcd ${version ?? "that does not run here"}` : found.reason}`)
      }
      throw new Stop(
        `etcd ${minor}.x was not found, and could not be had from this machine's package source:\n${
          tried.join("\n")
        }\n` +
          `Unpack a release of etcd ${minor}.x (the binaries etcd and etcdctl in one folder) and name the folder:\n` +
          `  ETCD_BIN=/path/to/etcd-${minor} npm test\n` +
          `The tests need 3.5.x and 3.4.x: ETCD_BIN=/path/to/etcd-3.5${delimiter}/path/to/etcd-3.4`
      )
    }))
}

/** @returns {Promise<Record<string, string>>} the variables by which the tests find the binaries */
export const etcdVariables = async () => {
  const candidates = []
  const named = wanted.map(({ variable }) => process.env[variable])
  for (const directory of new Set(folders(...named, process.env.ETCD_BIN, process.env.PATH))) {
    const version = await versionIn(directory)
    if (version !== undefined) candidates.push({ directory, version })
  }
  const variables = {}
  for (const etcd of wanted) {
    const found = candidates.find(({ version }) => isMinor(version, etcd.minor))
    variables[etcd.variable] = found?.directory ?? await fromDebian(etcd)
  }
  return variables
}

/** For the summary: which version each variable's folder holds. */
export const etcdVersions = (variables) =>
  Promise.all(wanted.map(async ({ variable }) => `etcd ${await versionIn(variables[variable])}`))
