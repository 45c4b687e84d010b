/**
 * Whether tests can give a Postgres server a small file system, which fills up. It needs `unshare` and `nsenter` of
 * util-linux, and a kernel that lets users create namespaces, which some distributions and most containers do not.
 *
 * Only a machine that can runs the tests named `*.smallDisk.test.ts`. A CI that cannot does not fail.
 */
import { tmpdir } from "node:os"
import { spawned } from "./exec.mjs"

/** The variable by which the tests know. */
const variable = "EFFECT_KV_SMALL_DISK"

/** What `smallDisk.ts` of the test suite does, on a directory that only this command sees as a file system of its own. */
const mount = `mount -t tmpfs -o size=1m tmpfs "$1" && nsenter --version &&
  exec unshare --user --map-user=65534 --map-group=65534 true`

const attempt = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh", tmpdir()]

const asUser = process.getuid?.() === 0
  ? ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", ...attempt]
  : attempt

/**
 * The variable, or nothing if this machine cannot.
 *
 * @returns {Promise<Record<string, string>>}
 */
export const smallDiskVariable = async () => {
  const [program, ...args] = asUser
  const said = await spawned(program, args, { capture: true }).catch(() => undefined)
  return said?.code === 0 ? { [variable]: "yes" } : {}
}

/** For the summary: what did not run, and how to add it. */
export const absentSmallDisk = (variables) =>
  variables[variable] ? [] : [
    "not run: Postgres servers with a full disk. They need util-linux, and a kernel that lets users create namespaces " +
    "(on Ubuntu: sysctl kernel.apparmor_restrict_unprivileged_userns=0)."
  ]
