/**
 * The benchmark does what its options say. Its results are not checked, because a busy machine must not fail a test.
 */
import * as GoProgram from "@effect-kv/interop/GoProgram"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { execFile } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { scenarios } from "../src/scenarios/all.ts"

const program = fileURLToPath(new URL("../src/main.ts", import.meta.url))

/** Runs the benchmark. It is killed when the test ends. */
const bench = (...args: ReadonlyArray<string>) =>
  Effect.callback<{ readonly failed: boolean; readonly output: string }>((resume) => {
    const child = execFile(process.execPath, [program, ...args], (error, stdout, stderr) => {
      resume(Effect.succeed({ failed: error !== null, output: stdout + stderr }))
    })
    return Effect.sync(() => child.kill("SIGKILL"))
  })

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "effect-kv-bench-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
)

it.live(
  "one quick scenario prints a row for each subject and number of calls in flight, a chart, and its goals",
  () =>
    Effect.gen(function*() {
      const out = yield* folder
      const go = GoProgram.file() === undefined ? [] : ["Go"]
      const subjects = ["etcd3", "etcd3 raw", "grpc-js", "effect-kv unbatched", "effect-kv", ...go]
      const [json, svg] = [join(out, "rows.json"), join(out, "chart.svg")]
      const { failed, output } = yield* bench("--quick", "--only", "put", "--json", json, "--svg", svg)
      assert.isFalse(failed, output)
      const rows = JSON.parse(readFileSync(json, "utf8")) as ReadonlyArray<Record<string, unknown>>
      assert.deepStrictEqual(
        new Set(rows.map((row) => row.subject)),
        new Set(subjects)
      )
      assert.deepStrictEqual(new Set(rows.map((row) => row.inFlight)), new Set([1, 64, 256]))
      assert.strictEqual(rows.length, 3 * subjects.length)
      for (const row of rows) {
        assert.strictEqual(row.scenario, "put")
        for (const field of ["opsPerSecond", "p50Ms", "p99Ms", "cpuMicrosPerOp", "ratio"]) {
          const value = row[field]
          assert.isTrue(typeof value === "number" && Number.isFinite(value) && value > 0, `${field} is ${value}`)
        }
      }
      assert.include(readFileSync(svg, "utf8"), ">put</text>")
      assert.match(output, /^put, 256 in flight: throughput against etcd3 +at least 15x +\S+x .* +(yes|NO)$/m)
      assert.notInclude(output, "get, 256 in flight")
    }),
  120_000
)

it.live("an unknown scenario is rejected with the names of all scenarios", () =>
  Effect.gen(function*() {
    const { failed, output } = yield* bench("--only", "gets")
    assert.isTrue(failed)
    assert.include(output, `there is no scenario "gets"`)
    for (const { name } of scenarios) assert.include(output, name)
  }))
