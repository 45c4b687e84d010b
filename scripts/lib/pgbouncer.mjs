/**
 * PgBouncer, which tests put in front of a Postgres server: the one on PATH, the cache of an earlier run, or the package of
 * the machine's own Debian source, unpacked into that cache, not installed.
 *
 * Without it the tests of PgBouncer do not run, and `npm test` says so in its summary. With `CI=true` that is a failure.
 */
import { existsSync } from "node:fs"
import { delimiter, join } from "node:path"
import { cached } from "./cached.mjs"
import { debianBinaries } from "./debian.mjs"
import { spawned } from "./exec.mjs"
import { cache } from "./paths.mjs"
import { report, step, Stop } from "./progress.mjs"

/** The variable by which the tests find the program. */
const variable = "EFFECT_KV_PGBOUNCER"

const howToAdd = "Install pgbouncer (Debian and Fedora: pgbouncer)."

const runs = async (program) => {
  const env = { ...process.env, LD_LIBRARY_PATH: join(program, "../lib") }
  const said = await spawned(program, ["--version"], { capture: true, env }).catch(() => undefined)
  return said?.code === 0
}

/** Debian keeps it in a folder that is not on every PATH. */
const installed = () =>
  [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin"].map((folder) => join(folder, "pgbouncer")).find(
    existsSync
  )

const provide = async (directory) => {
  const packages = ["pgbouncer", "libc-ares2", "libevent-2.1-7"]
  const result = await debianBinaries({ suite: "bookworm", packages, directory })
  if (!result.ok) throw new Stop(`PgBouncer could not be provided: ${result.reason}\n${howToAdd}`)
  if (!await runs(join(directory, "pgbouncer"))) throw new Stop(`Debian's PgBouncer does not run here. ${howToAdd}`)
}

/**
 * The variable with the program, or nothing if it could not be provided.
 *
 * @returns {Promise<Record<string, string>>}
 */
export const pgBouncerVariable = async () => {
  const given = process.env[variable]
  if (given) return { [variable]: given }
  try {
    const program = installed()
    if (program !== undefined && await runs(program)) return { [variable]: program }
    const directory = join(cache, "pgbouncer")
    await cached(directory, (directory) => step("PgBouncer", () => provide(directory)))
    return { [variable]: join(directory, "pgbouncer") }
  } catch (error) {
    if (process.env.CI === "true") throw error
    report(error)
    return {}
  }
}

/** For the summary: what did not run, and how to add it. */
export const absentPgBouncer = (variables) => variables[variable] ? [] : [`not run: PgBouncer. ${howToAdd}`]
