/**
 * The etcd binaries built from their Go modules, if this machine has Go.
 *
 * `go install module@version` rejects modules with replace directives, such as etcd's. A scratch module that requires
 * them does not have that limit.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { capture, spawned } from "./exec.mjs"

const modules = {
  etcd: "go.etcd.io/etcd/server/v3",
  etcdctl: "go.etcd.io/etcd/etcdctl/v3",
  etcdutl: "go.etcd.io/etcd/etcdutl/v3"
}

export const hasGo = async () => {
  const result = await spawned("go", ["version"], { capture: true }).catch(() => undefined)
  return result?.code === 0
}

/**
 * Puts `etcd`, `etcdctl` and `etcdutl` of the exact version, such as `v3.7.3`, into `directory`.
 *
 * @param {{ version: string, directory: string }} options
 * @returns {Promise<{ ok: true } | { ok: false, reason: string }>}
 */
export const goBinaries = async ({ directory, version }) => {
  if (!(await hasGo())) return { ok: false, reason: "this machine has no Go" }
  const scratch = mkdtempSync(join(tmpdir(), "effect-kv-go-"))
  const options = { cwd: scratch, env: { ...process.env, GOFLAGS: "-buildvcs=false", GOWORK: "off" } }
  try {
    writeFileSync(join(scratch, "go.mod"), "module effect-kv-etcd\n\ngo 1.23\n")
    await capture("go", ["get", ...Object.values(modules).map((module) => `${module}@${version}`)], options)
    for (const [name, module] of Object.entries(modules)) {
      await capture("go", ["build", "-o", join(directory, name), module], options)
    }
    return { ok: true }
  } catch (error) {
    return { ok: false, reason: error.message.trim().replaceAll("\n", "\n    ") }
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}
