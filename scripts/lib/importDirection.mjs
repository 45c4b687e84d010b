/**
 * A check of the linter's rules for imports (`.oxlintrc.json`). A rule that matches nothing would always pass. So this
 * step shows the linter wrong imports in each kind of package, and a circle of imports in each folder that must have
 * none. The linter must report each of them.
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
  "packages/postgres/src": ["node:fs", "@effect-kv/etcd", "@effect-kv/memory", "@effect-kv/core/internal/utf8"],
  "packages/cluster/src": ["node:fs", "@effect-kv/etcd", "@effect-kv/core/internal/utf8"],
  "packages/persistence/src": ["node:fs", "@effect-kv/etcd", "@effect-kv/core/internal/utf8"],
  "packages/reactivity/src": ["node:fs", "@effect-kv/etcd", "@effect-kv/core/internal/utf8"],
  "packages/cli/src": ["@effect-kv/test-suite", "@effect-kv/core/internal/utf8", "vitest"],
  "packages/test-suite/src": ["@effect-kv/memory/MemoryLayer", "@effect-kv/etcd", "@effect-kv/core/internal/utf8"],
  "packages/test-suite/src/testing": ["node:fs", "vitest", "../conformance/index.ts", "../verification/index.ts"],
  "packages/test-suite/src/conformance": ["node:fs", "@effect-kv/memory", "../verification/index.ts"],
  "packages/memory/test": ["@effect-kv/core/internal/utf8", "../../core/src/internal/utf8.ts"],
  "examples/src": ["@effect-kv/core/internal/utf8", "../../packages/core/src/Kv.ts"]
}

/** The folders that must not have circles of imports, not even of types, with the extension of their files. */
const withoutCircles = {
  "packages/core/src": "ts",
  "packages/memory/src": "ts",
  "packages/etcd/src": "ts",
  "packages/postgres/src": "ts",
  "packages/test-suite/src": "ts",
  "packages/cluster/src": "ts",
  "packages/persistence/src": "ts",
  "packages/reactivity/src": "ts",
  "packages/cli/src": "ts",
  "chaos/src": "ts",
  "benchmarks/src": "ts",
  "examples/src": "ts",
  "scripts/lib": "mjs"
}

/** Two files that import each other, in TypeScript only their types. */
const circleOf = (extension) =>
  extension === "mjs"
    ? {
      "A.mjs": "import { b } from \"./B.mjs\"\nexport const a = () => b\n",
      "B.mjs": "import { a } from \"./A.mjs\"\nexport const b = () => a\n"
    }
    : {
      "A.ts": "import type { B } from \"./B.ts\"\nexport type A = B | 1\n",
      "B.ts": "import type { A } from \"./A.ts\"\nexport type B = A | 2\n"
    }

export const checkImportDirection = async (temporary) => {
  const project = join(temporary, "import-direction")
  for (const [folder, imports] of Object.entries(forbidden)) {
    mkdirSync(join(project, folder), { recursive: true })
    writeFileSync(join(project, folder, "Wrong.ts"), imports.map((name) => `export * from "${name}"\n`).join(""))
  }
  for (const [folder, extension] of Object.entries(withoutCircles)) {
    const circle = join(project, folder)
    mkdirSync(circle, { recursive: true })
    for (const [file, lines] of Object.entries(circleOf(extension))) writeFileSync(join(circle, file), lines)
  }
  copyFileSync(join(root, ".oxlintrc.json"), join(project, ".oxlintrc.json"))
  const { output } = await spawned("oxlint", ["--format=unix"], { cwd: project, capture: true })
  rmSync(project, { recursive: true })
  const missed = Object.entries(forbidden).flatMap(([folder, imports]) =>
    imports.filter((_, line) => !output.includes(`${folder}/Wrong.ts:${line + 1}:`)).map((name) => `${folder}: ${name}`)
  )
  missed.push(
    ...Object.entries(withoutCircles)
      .filter(([folder, extension]) => !output.includes(`${folder}/A.${extension}:1:`))
      .map(([folder]) => `${folder}: a circle of imports`)
  )
  if (missed.length > 0) throw new Stop(`The linter lets these imports pass:\n  ${missed.join("\n  ")}\n${output}`)
}
