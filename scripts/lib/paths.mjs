/** Paths of the project. Everything that the scripts download or write for themselves is under `cache`. */
import { join } from "node:path"
import { fileURLToPath } from "node:url"

export const root = fileURLToPath(new URL("../..", import.meta.url)).replace(/[\\/]$/, "")
export const cache = join(root, ".cache")
export const packages = [
  "core",
  "memory",
  "etcd",
  "postgres",
  "test-suite",
  "cluster",
  "persistence",
  "reactivity",
  "cli"
]
