/**
 * A program in a single file, as a bundler makes it: it has neither `node_modules` nor other files beside it.
 *
 * esbuild is installed as `bundler`: under its own name it is an optional peer of vite, and this package would get a vitest
 * of its own, beside the one that runs the tests.
 */
import { EtcdCluster } from "@effect-kv/test-suite/verification"
import { assert, layer } from "@effect/vitest"
import { build, type Format } from "bundler"
import * as Effect from "effect/Effect"
import { execFile } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"

const source = fileURLToPath(new URL("./programs/bundled.ts", import.meta.url))

/** A directory that no `node_modules` is above of. */
const directory = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "effect-kv-bundle-"))),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true }))
)

const run = (file: string, url: string): Effect.Effect<string> =>
  Effect.callback((resume) => {
    const child = execFile(
      process.execPath,
      [file, url],
      { cwd: Path.dirname(file), timeout: 20_000, env: {} },
      (error, output, errors) =>
        resume(error === null ? Effect.succeed(output) : Effect.die(new Error(`${error.message}\n${errors}`)))
    )
    return Effect.sync(() => child.kill("SIGKILL"))
  })

layer(EtcdCluster.layer(), { excludeTestServices: true, timeout: "60 seconds" })((it) => {
  const formats: ReadonlyArray<readonly [Format, string]> = [["esm", "mjs"], ["cjs", "cjs"]]
  for (const [format, extension] of formats) {
    it.effect(
      `A program that esbuild made a single ${format} file of runs on memory and on etcd`,
      () =>
        Effect.gen(function*() {
          const { endpoints } = yield* EtcdCluster.EtcdCluster
          const outfile = Path.join(yield* directory, `bundled.${extension}`)
          const { warnings } = yield* Effect.promise(() =>
            build({
              entryPoints: [source],
              outfile,
              format,
              bundle: true,
              platform: "node",
              target: "node22",
              logLevel: "silent"
            })
          )
          assert.deepStrictEqual(warnings, [])
          for (const url of ["mem:", endpoints[0]!]) {
            assert.deepStrictEqual(JSON.parse(yield* run(outfile, url)), { value: "2", events: 2 })
          }
        }),
      60_000
    )
  }
})
