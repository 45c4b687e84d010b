/**
 * The etcd binaries (`etcd`, `etcdctl`, and from 3.6 `etcdutl`) that the tests run against, one folder for each minor
 * version:
 *
 * 1. a folder named by the version's variable (`EFFECT_KV_ETCD_37`, ...), by `ETCD_BIN` (one or several, separated as in
 *    PATH), or on PATH, matched by what `etcd --version` prints;
 * 2. the cache of an earlier run, `.cache/etcd/<minor>`;
 * 3. the packages of the machine's own Debian source (see `debian.mjs`), unpacked into that cache, not installed;
 * 4. a build from etcd's Go modules (see `goModules.mjs`), if the machine has Go, into the same cache.
 *
 * A version that cannot be provided is left out, and `npm test` names it in its summary. With `CI=true` it is a failure.
 */
import { existsSync, rmSync } from "node:fs"
import { delimiter, join } from "node:path"
import { cached } from "./cached.mjs"
import { debianBinaries } from "./debian.mjs"
import { spawned } from "./exec.mjs"
import { goBinaries } from "./goModules.mjs"
import { cache } from "./paths.mjs"
import { report, step, Stop } from "./progress.mjs"

/** The versions, the newest first; the Debian suites that carry (or carried) each, the best first; its Go release. */
const wanted = [
  { minor: "3.7", variable: "EFFECT_KV_ETCD_37", suites: [], release: "v3.7.3" },
  { minor: "3.6", variable: "EFFECT_KV_ETCD_36", suites: [], release: "v3.6.16" },
  { minor: "3.5", variable: "EFFECT_KV_ETCD_35", suites: ["forky", "sid", "trixie"] },
  { minor: "3.4", variable: "EFFECT_KV_ETCD_34", suites: ["bookworm"] }
]

export const minors = wanted.map(({ minor }) => minor)

/** The programs that a folder must contain. From 3.6 on `etcdutl` restores snapshots, before that `etcdctl`. */
const binariesOf = (version) => ["etcd", "etcdctl", ...(/^3\.[45]\./.test(version) ? [] : ["etcdutl"])]

/** The version of the etcd in a folder, if it runs and the other binaries are there. */
const versionIn = async (directory) => {
  if (!existsSync(join(directory, "etcd"))) return undefined
  const said = await spawned(join(directory, "etcd"), ["--version"], { capture: true }).catch(() => undefined)
  const version = said?.code === 0 ? /etcd Version: (\S+)/.exec(said.output)?.[1] : undefined
  if (version === undefined) return undefined
  return binariesOf(version).every((name) => existsSync(join(directory, name))) ? version : undefined
}

const isMinor = (version, minor) => version?.startsWith(`${minor}.`) === true

const folders = (...lists) => lists.flatMap((list) => list?.split(delimiter).filter(Boolean) ?? [])

const howToAdd = (minor) =>
  `Unpack a release of etcd ${minor}.x (all its binaries in one folder) and name the folder:\n` +
  `  ETCD_BIN=/path/to/etcd-${minor} npm test\n` +
  `or install Go: then etcd is built from its modules.`

/** The sources of one minor version, in the order in which they are tried. */
const sourcesOf = ({ release, suites }, directory) => [
  ...suites.map((suite) => ({
    name: `Debian's ${suite}`,
    provide: () => debianBinaries({ suite, packages: ["etcd-server", "etcd-client"], directory })
  })),
  ...(release === undefined ? [] : [{
    name: `the Go modules ${release}`,
    provide: () => goBinaries({ version: release, directory })
  }])
]

/** One minor version from the first source that has it. A cached version that does not run is replaced. */
const provided = async (etcd) => {
  const { minor } = etcd
  const directory = join(cache, "etcd", minor)
  if (!isMinor(await versionIn(directory), minor)) rmSync(directory, { recursive: true, force: true })
  return cached(directory, (directory) =>
    step(`etcd ${minor}`, async () => {
      const tried = []
      for (const { name, provide } of sourcesOf(etcd, directory)) {
        const result = await provide()
        const version = result.ok ? await versionIn(directory) : undefined
        if (isMinor(version, minor)) return
        tried.push(`  ${name}: ${result.ok ? `etcd ${version ?? "that does not run here"}` : result.reason}`)
      }
      throw new Stop(`No etcd ${minor}.x was found or could be provided:\n${tried.join("\n")}\n${howToAdd(minor)}`)
    }))
}

const isOptional = process.env.CI !== "true"

/**
 * The variables by which the tests find the binaries. A version that cannot be provided has none.
 *
 * @param {{ isOneEnough?: boolean }} [options] `isOneEnough`: only the newest version that can be provided
 * @returns {Promise<Record<string, string>>}
 */
export const etcdVariables = async ({ isOneEnough = false } = {}) => {
  const candidates = []
  const named = wanted.map(({ variable }) => process.env[variable])
  for (const directory of new Set(folders(...named, process.env.ETCD_BIN, process.env.PATH))) {
    const version = await versionIn(directory)
    if (version !== undefined) candidates.push({ directory, version })
  }
  const variables = {}
  for (const etcd of wanted) {
    const found = candidates.find(({ version }) => isMinor(version, etcd.minor))
    const directory = found?.directory ?? await provided(etcd).catch((error) => {
      if (!isOptional) throw error
      report(error)
      return undefined
    })
    if (directory !== undefined) variables[etcd.variable] = directory
    if (directory !== undefined && isOneEnough) break
  }
  if (Object.keys(variables).length === 0) throw new Stop("The tests need at least one version of etcd.")
  return variables
}

/** The minor versions that {@link etcdVariables} found, from the environment it made. */
export const providedMinors = (variables) =>
  wanted.filter(({ variable }) => variables[variable] !== undefined).map(({ minor }) => minor)

/** For the summary: the version in each folder, and the versions that did not run. */
export const etcdVersions = async (variables) => {
  const present = wanted.filter(({ variable }) => variables[variable] !== undefined)
  const absent = wanted.filter(({ variable }) => variables[variable] === undefined)
  return {
    present: await Promise.all(present.map(async ({ variable }) => `etcd ${await versionIn(variables[variable])}`)),
    absent: absent.map(({ minor }) => `not run: etcd ${minor}.x. ${howToAdd(minor)}`)
  }
}
