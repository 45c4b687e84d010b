/**
 * The direction of imports between packages is a rule of the linter (`.oxlintrc.json`). A rule that matches nothing
 * would always pass, so this shows it a package of each kind that breaks it, and a circle of imports, and wants every
 * violation found.
 */
import { copyFileSync, mkdirSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { spawned } from "./exec.mjs"
import { root } from "./paths.mjs"
import { Stop } from "./progress.mjs"

const forbidden = {
  "packages/core/src": ["node:fs", "vitest", "@effect/platform-node/NodeRuntime", "@effect-kv/memory"],
  "packages/memory/src": ["node:fs", "@effect-kv/etcd/EtcdLayer", "@effect-kv/core/internal/utf8"],
  "packages/etcd/src": ["@effect-kv/memory", "@effect-kv/test-suite", "@effect-kv/core/internal/utf8"],
  "packages/test-suite/src": ["@effect-kv/memory/MemoryLayer", "@effect-kv/etcd", "@effect-kv/core/internal/utf8"],
  "packages/memory/test": ["@effect-kv/core/internal/utf8", "../../core/src/internal/utf8.ts"],
  "examples/src": ["@effect-kv/core/internal/utf8", "../../packages/core/src/Kv.ts"]
}

export const checkImportDirection = async (temporary) => {
  const project = join(temporary, "import-direction")
  for (const [folder, imports] of Object.entries(forbidden)) {
    mkdirSync(join(project, folder), { recursive: true })
    writeFileSync(join(project, folder, "Wrong.ts"), imports.map((name) => `export * from "${name}"\n`).join(""))
  }
  const circle = join(project, "packages/core/src")
  writeFileSync(join(circle, "A.ts"), "import type { B } from \"./B.ts\"\nexport type A = B | 1\n")
  writeFileSync(join(circle, "B.ts"), "import type { A } from \"./A.ts\"\nexport type B = A | 2\n")
  copyFileSync(join(root, ".oxlintrc.json"), join(project, ".oxlintrc.json"))
  const { output } = await spawned("oxlint", ["--format=unix"], { cwd: project, capture: true })
  rmSync(project, { recursive: true })
  const missed = Object.entries(forbidden).flatMap(([folder, imports]) =>
    imports.filter((_, line) => !output.includes(`${folder}/Wrong.ts:${line + 1}:`)).map((name) => `${folder}: ${name}`)
  )
  if (!output.includes("packages/core/src/A.ts:1:")) missed.push("packages/core/src: a circle of types")
  if (missed.length > 0) throw new Stop(`The linter lets these imports pass:\n  ${missed.join("\n  ")}\n${output}`)
}
