/** The leftovers step: files in the clone, temporary files and processes that a test run left behind. */
import { randomUUID } from "node:crypto"
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout } from "node:timers/promises"
import { spawned } from "./exec.mjs"
import { root } from "./paths.mjs"
import { Stop } from "./progress.mjs"

const untracked = async () => {
  const { code, output } = await spawned("git", ["status", "--porcelain"], { cwd: root, capture: true })
    .catch(() => ({ code: 1, output: "" }))
  return code === 0 ? output.split("\n").filter(Boolean) : []
}

/** All processes with this run's mark in their environment, except this one. Only Linux shows it without privileges. */
const marked = (mark) => {
  if (process.platform !== "linux") return []
  return readdirSync("/proc").filter((pid) => /^\d+$/.test(pid) && Number(pid) !== process.pid).flatMap((pid) => {
    try {
      if (!readFileSync(`/proc/${pid}/environ`, "utf8").includes(`EFFECT_KV_RUN=${mark}`)) return []
      return [{ pid: Number(pid), command: readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim() }]
    } catch {
      return [] // it ended, or is another user's
    }
  }).filter(({ command }) => command !== "")
}

/** The folder for the data of etcd servers: memory rather than a disk, which every write would wait for. */
const fastFolder = () => (existsSync("/dev/shm") ? "/dev/shm" : tmpdir())

/**
 * Gives everything that follows a mark and its own temporary folders; `check` finds what remains. A fixture that gives
 * its processes a clean environment must keep `EFFECT_KV_RUN`, and put its files under `EFFECT_KV_SCRATCH`.
 */
export const watchLeftovers = async () => {
  const before = new Set(await untracked())
  const mark = randomUUID()
  const temporary = mkdtempSync(join(tmpdir(), "effect-kv-test-"))
  const inner = mkdtempSync(join(temporary, "tmp-"))
  const scratch = mkdtempSync(join(fastFolder(), "effect-kv-test-"))
  chmodSync(scratch, 0o711) // Postgres refuses to run as root: then it runs as another user
  Object.assign(process.env, {
    EFFECT_KV_RUN: mark,
    EFFECT_KV_SCRATCH: scratch,
    TMPDIR: inner,
    NODE_DISABLE_COMPILE_CACHE: "1" // it would be kept in the temporary folder
  })
  return {
    temporary,
    check: async () => {
      for (let i = 0; i < 20 && marked(mark).length > 0; i++) await setTimeout(100)
      const processes = marked(mark)
      for (const { pid } of processes) process.kill(pid, "SIGKILL")
      const found = [
        ...processes.map(({ command, pid }) => `a process (ended now): ${pid} ${command}`),
        ...[inner, scratch].flatMap((folder) =>
          readdirSync(folder).map((name) => `a temporary file (removed now): ${name}`)
        ),
        ...(await untracked()).filter((line) => !before.has(line)).map((line) => `a change in the clone: ${line}`)
      ]
      if (found.length > 0) throw new Stop(`The tests left behind:\n  ${found.join("\n  ")}`)
    },
    remove: () => {
      for (const folder of [temporary, scratch]) rmSync(folder, { recursive: true, force: true })
    }
  }
}
