/**
 * What a bundler keeps of the core: a program pays for the recipes that it uses, and for no others.
 */
import { assert, it } from "@effect/vitest"
import { build } from "bundler"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"

const core = fileURLToPath(new URL("../../core/src/", import.meta.url))

/** The modules of the core, by their paths in it, of which the bundle of a program has code. */
const modulesOf = (program: string): Effect.Effect<ReadonlyArray<string>> =>
  Effect.map(
    Effect.promise(() =>
      build({
        stdin: { contents: program, resolveDir: import.meta.dirname, loader: "ts" },
        absWorkingDir: core,
        bundle: true,
        external: ["effect"],
        format: "esm",
        logLevel: "silent",
        metafile: true,
        platform: "node",
        write: false
      })
    ),
    ({ metafile }) =>
      Object.values(metafile.outputs)
        .flatMap(({ inputs }) => Object.entries(inputs))
        .filter(([path, { bytesInOutput }]) => !path.startsWith("..") && bytesInOutput > 0)
        .map(([path]) => path)
  )

const recipesIn = (modules: ReadonlyArray<string>) => modules.filter((path) => path.startsWith("recipes/")).sort()

/** The folders of `internal` that only recipes use, each the engine of some. Metrics and traces are part of every program. */
const enginesIn = (modules: ReadonlyArray<string>): ReadonlyArray<string> => {
  const shared = new Set(["batching", "fence", "kv", "metrics", "session", "tracing", "values", "watch"])
  const folders = modules.flatMap((path) => /^internal\/(\w+)\//.exec(path)?.[1] ?? [])
  return [...new Set(folders)].filter((folder) => !shared.has(folder)).sort()
}

const programs: ReadonlyArray<readonly [how: string, program: string]> = [
  [
    "from the indexes",
    `import { DistLock, Kv } from "@effect-kv/core"
     import { MemoryLayer } from "@effect-kv/memory"`
  ],
  [
    "by module",
    `import * as DistLock from "@effect-kv/core/DistLock"
     import * as Kv from "@effect-kv/core/Kv"
     import * as MemoryLayer from "@effect-kv/memory/MemoryLayer"`
  ]
]

for (const [how, imports] of programs) {
  const main = (effect: string) =>
    `import * as Effect from "effect/Effect"
     ${imports}
     Effect.runFork(Effect.provide(${effect}, MemoryLayer.layer))`

  it.effect(
    `A program that uses DistLock, imported ${how}, is bundled without the other recipes`,
    () =>
      Effect.gen(function*() {
        const modules = yield* modulesOf(main(`DistLock.withDistLock(Kv.put("key", "value"), "lock")`))
        assert.deepStrictEqual(recipesIn(modules), ["recipes/DistLock.ts"])
        assert.deepStrictEqual(enginesIn(modules), ["lock", "queue"])
      }),
    60_000
  )

  it.effect(`A program that uses Kv, imported ${how}, is bundled without recipes`, () =>
    Effect.gen(function*() {
      const modules = yield* modulesOf(main(`Kv.put("key", "value")`))
      assert.deepStrictEqual(recipesIn(modules), [])
    }), 60_000)
}

it.effect("A program that uses everything of the core is bundled with each recipe", () =>
  Effect.gen(function*() {
    const modules = yield* modulesOf(`export * from "@effect-kv/core"`)
    assert.deepStrictEqual(
      recipesIn(modules),
      Fs.readdirSync(Path.join(core, "recipes")).map((file) => `recipes/${file}`).sort()
    )
  }), 60_000)
