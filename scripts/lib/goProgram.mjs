/**
 * The Go program that the interop tests and the benchmark drive (`interop/go`), built if this machine has Go, and cached
 * by the hash of its sources. A cached build needs neither Go nor a network.
 *
 * Without Go it is left out, and `npm test` says so in its summary. With `CI=true` that is a failure.
 */
import { createHash } from "node:crypto"
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { cached } from "./cached.mjs"
import { capture } from "./exec.mjs"
import { hasGo } from "./goModules.mjs"
import { cache, root } from "./paths.mjs"
import { report, step, Stop } from "./progress.mjs"

/** The variable by which the tests find the program. */
const variable = "EFFECT_KV_GO_PROGRAM"

const sources = join(root, "interop/go")

const howToAdd = "Install Go 1.26 or later: then the program is built from interop/go, and cached."

const hashOfSources = () => {
  const hash = createHash("sha256")
  for (const name of readdirSync(sources).sort()) hash.update(name).update(readFileSync(join(sources, name)))
  return hash.digest("hex").slice(0, 16)
}

const build = async (directory) => {
  if (!(await hasGo())) throw new Stop(`this machine has no Go. ${howToAdd}`)
  const env = { ...process.env, GOFLAGS: "-buildvcs=false", GOWORK: "off" }
  await capture("go", ["build", "-o", join(directory, "interop"), "."], { cwd: sources, env })
}

/**
 * The variable with the program's path, or nothing if it cannot be built.
 *
 * @returns {Promise<Record<string, string>>}
 */
export const goProgramVariable = async () => {
  const given = process.env[variable]
  if (given) return { [variable]: given }
  try {
    const directory = join(cache, "interop", `${process.platform}-${process.arch}-${hashOfSources()}`)
    await cached(directory, (directory) => step("the Go program for interop", () => build(directory)))
    return { [variable]: join(directory, "interop") }
  } catch (error) {
    if (process.env.CI === "true") throw error
    report(error)
    return {}
  }
}

export const hasGoProgram = (variables) => Boolean(variables[variable])

/** For the summary: what did not run, and how to add it. */
export const absentGoProgram = (variables) =>
  hasGoProgram(variables) ? [] : [`not run: interop with Go's etcd client. ${howToAdd}`]
