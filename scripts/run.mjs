/**
 * Runs a command of this project with everything it needs: the right Node and pnpm, the dependencies, with `--etcd`
 * the etcd binaries (`--one-etcd`: only the newest version available), with `--go` the Go program for interop, with
 * `--postgres` Postgres servers, PgBouncer and whether servers can have small disks, with `--terminal` what gives tests a
 * terminal, and with `--promtool` what tests the alerting rules if this machine has it. It is plain JavaScript for Node 20,
 * because nothing else is available before it has run.
 *
 *     node scripts/run.mjs [--etcd | --one-etcd] [--go] [--postgres] [--terminal] [--promtool] [--no-install] <command>
 *         [...arguments]
 */
import { delimiter, join } from "node:path"
import { etcdVariables } from "./lib/etcd.mjs"
import { spawned } from "./lib/exec.mjs"
import { goProgramVariable } from "./lib/goProgram.mjs"
import { install } from "./lib/install.mjs"
import { cache, root } from "./lib/paths.mjs"
import { pgBouncerVariable } from "./lib/pgbouncer.mjs"
import { postgresVariables } from "./lib/postgres.mjs"
import { report, Stop } from "./lib/progress.mjs"
import { promtoolVariable } from "./lib/promtool.mjs"
import { smallDiskVariable } from "./lib/smallDisk.mjs"
import { terminalVariable } from "./lib/terminal.mjs"
import { toolchain } from "./lib/toolchain.mjs"

const start = process.argv.findIndex((argument, index) => index > 1 && !argument.startsWith("--"))
const flags = new Set(process.argv.slice(2, start))
const [command, ...args] = process.argv.slice(start)

const main = async () => {
  const [major] = process.versions.node.split(".").map(Number)
  if (major < 20) throw new Stop(`Node 20 or later is needed to start; this is ${process.version}.`)
  const env = await toolchain()
  if (!flags.has("--no-install")) await install(env)
  if (flags.has("--etcd")) Object.assign(env, await etcdVariables())
  if (flags.has("--one-etcd")) Object.assign(env, await etcdVariables({ isOneEnough: true }))
  if (flags.has("--go")) Object.assign(env, await goProgramVariable())
  if (flags.has("--postgres")) {
    Object.assign(env, await postgresVariables(), await pgBouncerVariable(), await smallDiskVariable())
  }
  if (flags.has("--terminal")) Object.assign(env, await terminalVariable())
  if (flags.has("--promtool")) Object.assign(env, await promtoolVariable())
  env.PATH = `${join(root, "node_modules", ".bin")}${delimiter}${env.PATH}`
  env.DPRINT_CACHE_DIR = join(cache, "dprint")
  const { code } = await spawned(command, args, { cwd: root, env })
  return code
}

try {
  process.exitCode = await main()
} catch (error) {
  report(error)
  process.exitCode = 1
}
