/** A folder under `.cache` that is either complete or absent, even if several processes fill it at once. */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync } from "node:fs"
import { dirname, join } from "node:path"

const hour = 3_600_000

/** Removes what an interrupted run left. Recent folders may belong to a run in parallel. */
const sweep = (parent) => {
  for (const name of readdirSync(parent)) {
    const path = join(parent, name)
    if (name.startsWith(".new-") && Date.now() - statSync(path).mtimeMs > hour) rmSync(path, { recursive: true })
  }
}

/**
 * Fills a temporary sibling and renames it, so an interruption leaves nothing that a later run would trust.
 *
 * @param {string} directory
 * @param {(temporary: string) => Promise<void>} fill
 */
export const cached = async (directory, fill) => {
  if (existsSync(directory)) return directory
  const parent = dirname(directory)
  mkdirSync(parent, { recursive: true })
  sweep(parent)
  const temporary = mkdtempSync(join(parent, ".new-"))
  try {
    await fill(temporary)
    chmodSync(temporary, 0o755) // temporary folders are private
    try {
      renameSync(temporary, directory)
    } catch (error) {
      if (!existsSync(directory)) throw error // else another run was first, with the same content
    }
    return directory
  } finally {
    rmSync(temporary, { recursive: true, force: true })
  }
}
