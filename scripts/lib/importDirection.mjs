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
  "packages/test-suite/src/testing": ["node:fs", "vitest", "../conformance/index.ts", "../verification/index.ts"],
  "packages/test-suite/src/conformance": ["node:fs", "@effect-kv/memory", "../verification/index.ts"],
  "packages/memory/test": ["@effect-kv/core/internal/utf8", "../../core/src/internal/utf8.ts"],
  "examples/src": ["@effect-kv/core/internal/utf8", "../../packages/core/src/Kv.ts"]
}

const withoutCircles = ["core", "memory", "etcd", "test-suite"].map((name) => `packages/${name}/src`)

export const checkImportDirection = async (temporary) => {
  const project = join(temporary, "import-direction")
  for (const [folder, imports] of Object.entries(forbidden)) {
    mkdirSync(join(project, folder), { recursive: true })
    writeFileSync(join(project, folder, "Wrong.ts"), imports.map((name) => `export * from "${name}"\n`).join(""))
  }
  for (const folder of withoutCircles) {
    const source = join(project, folder)
    writeFileSync(join(source, "A.ts"), "import type { B } from \"./B.ts\"\nexport type A = B | 1\n")
    writeFileSync(join(source, "B.ts"), "import type { A } from \"./A.ts\"\nexport type B = A | 2\n")
  }
  copyFileSync(join(root, ".oxlintrc.json"), join(project, ".oxlintrc.json"))
  const { output } = await spawned("oxlint", ["--format=unix"], { cwd: project, capture: true })
  rmSync(project, { recursive: true })
  const missed = Object.entries(forbidden).flatMap(([folder, imports]) =>
    imports.filter((_, line) => !output.includes(`${folder}/Wrong.ts:${line + 1}:`)).map((name) => `${folder}: ${name}`)
  )
  for (const folder of withoutCircles) {
    if (!output.includes(`${folder}/A.ts:1:`)) missed.push(`${folder}: a circle of types`)
  }
  if (missed.length > 0) throw new Stop(`The linter lets these imports pass:\n  ${missed.join("\n  ")}\n${output}`)
}
