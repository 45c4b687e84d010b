/**
 * The fixed cost of a package: how long a fresh Node process takes to import it, and its size, minified and compressed.
 *
 * The compiled packages are measured, arranged as an installation would arrange them. An operation is an import,
 * including `effect` and all other dependencies. The size is that of the package's own JavaScript, without
 * dependencies.
 */
import * as Effect from "effect/Effect"
import { execFile } from "node:child_process"
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { gzipSync } from "node:zlib"
import { rolldown } from "rolldown"
import * as Measure from "../Measure.ts"
import type { Round } from "../Row.ts"
import type { Scenario } from "../Scenario.ts"

const root = fileURLToPath(new URL("../../..", import.meta.url))
/** Where the packages are installed, see {@link installed}. */
export const installation = join(root, "benchmarks/build/installation")

interface Subject {
  readonly name: string
  /** What a fresh process imports. */
  readonly modules: ReadonlyArray<string>
  /** What a program uses of them. Default: everything. */
  readonly uses?: string
}

const subjects: ReadonlyArray<Subject> = [
  { name: "etcd3", modules: ["etcd3"] },
  { name: "@effect-kv/core", modules: ["@effect-kv/core"] },
  { name: "@effect-kv/memory", modules: ["@effect-kv/memory"] },
  { name: "core + memory", modules: ["@effect-kv/core", "@effect-kv/memory"] },
  { name: "@effect-kv/etcd", modules: ["@effect-kv/etcd"] },
  {
    name: "DistLock on memory",
    modules: ["@effect-kv/core/DistLock", "@effect-kv/core/Kv", "@effect-kv/memory/MemoryLayer"]
  },
  {
    name: "DistLock on memory, by index",
    modules: ["@effect-kv/core", "@effect-kv/memory"],
    uses: `export { DistLock, Kv } from "@effect-kv/core"; export { MemoryLayer } from "@effect-kv/memory"`
  }
]

export const packages: Scenario = {
  name: "packages",
  run: Effect.fnUntraced(function*({ needed, options }) {
    yield* installed
    const chosen = needed(1, subjects)
    yield* Effect.forEach(chosen, ({ modules }) => timedImport(modules), { discard: true })
    const rows = yield* Measure.takeTurns(
      "packages",
      1,
      options.rounds,
      chosen.map(({ modules, name }) => ({ name, round: timedImport(modules) }))
    )
    return yield* Effect.forEach(rows, (row, i) => {
      const { modules, uses } = chosen[i]!
      const own = modules.filter((name) => name.startsWith("@effect-kv/"))
      return own.length === 0 ? Effect.succeed(row) : Effect.map(sizesOf(own, uses), (sizes) => ({ ...row, ...sizes }))
    })
  })
}

const run = promisify(execFile)

/** Builds the packages and installs what is published of them in `installation`. */
export const installed: Effect.Effect<void, unknown> = Effect.suspend(() =>
  Effect.andThen(
    Effect.tryPromise(() => run("tsc", ["-b", join(root, "tsconfig.build.json")], { cwd: root })),
    Effect.try({ try: install, catch: (cause) => cause })
  )
)

interface Manifest {
  readonly dependencies?: Readonly<Record<string, string>>
  readonly publishConfig: object
}

/** Arranges the packages as a package manager does: with their published manifests and compiled code. */
const install = (): void => {
  rmSync(installation, { recursive: true, force: true })
  for (const name of ["core", "memory", "etcd"]) {
    const from = join(root, "packages", name)
    const to = join(installation, "node_modules/@effect-kv", name)
    mkdirSync(to, { recursive: true })
    const manifest = JSON.parse(readFileSync(join(from, "package.json"), "utf8")) as Manifest
    writeFileSync(join(to, "package.json"), JSON.stringify({ ...manifest, ...manifest.publishConfig }))
    cpSync(join(from, "dist"), join(to, "dist"), { recursive: true })
    for (const dependency of Object.keys(manifest.dependencies ?? {})) {
      const installed = join(from, "node_modules", dependency)
      const link = join(to, "node_modules", dependency)
      if (dependency.startsWith("@effect-kv/") || !existsSync(installed)) continue
      mkdirSync(dirname(link), { recursive: true })
      symlinkSync(installed, link)
    }
  }
}

const timedImport = (modules: ReadonlyArray<string>): Effect.Effect<Round, unknown> =>
  Effect.tryPromise(async () => {
    const imports = modules.map((name) => `await import(${JSON.stringify(name)})`).join("; ")
    const code = `const cpu = process.cpuUsage(), started = performance.now(); ${imports};
      const millis = performance.now() - started, { user, system } = process.cpuUsage(cpu);
      console.log(JSON.stringify([millis, user + system]))`
    const { stdout } = await run(process.execPath, ["--input-type=module", "-e", code], { cwd: installation })
    const [millis, cpuMicrosPerOp] = JSON.parse(stdout) as [number, number]
    return { opsPerSecond: 1000 / millis, p50Ms: millis, p99Ms: millis, cpuMicrosPerOp }
  })

/** The sizes of one file that exports what a program uses of the modules, with all that it needs of their packages. */
const sizesOf = (modules: ReadonlyArray<string>, uses = exportsOf(modules)) => {
  const packages = modules.map((name) => name.split("/").slice(0, 2).join("/"))
  const isOwn = (id: string) => packages.some((name) => id === name || id.startsWith(`${name}/`))
  return Effect.map(bundled("all.mjs", uses, (id) => /^[@a-z]/.test(id) && !isOwn(id)), (code) => ({
    minifiedBytes: Buffer.byteLength(code),
    gzippedBytes: gzipSync(code, { level: 9 }).length
  }))
}

/** All exports, each module's under a name of its own. */
const exportsOf = (modules: ReadonlyArray<string>): string =>
  modules.map((name, i) => `export * as m${i} from ${JSON.stringify(name)}\n`).join("")

/** Bundles modules and what they import, except `etcd3`, to one file in `installation`. Returns its code. */
export const bundled = (
  file: string,
  modules: string,
  external: (id: string) => boolean = (id) => id === "etcd3"
): Effect.Effect<string, unknown> =>
  Effect.tryPromise(async () => {
    const entry = join(installation, `entry-of-${file}`)
    writeFileSync(entry, modules)
    const bundle = await rolldown({ input: entry, platform: "node", external })
    const { output } = await bundle.generate({ format: "esm", minify: true, codeSplitting: false })
    await bundle.close()
    const code = output.map((chunk) => chunk.type === "chunk" ? chunk.code : "").join("")
    writeFileSync(join(installation, file), code)
    return code
  })
