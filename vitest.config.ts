/**
 * One project per backend, so that a run can report how many cases ran where. The etcd projects run the same files against
 * each version of etcd that was provided. `*.once.test.ts` holds slow tests that do not depend on the version: they run on
 * the newest alone.
 *
 * `npm test` and `npm run vitest` provide the binaries and name their folders in `EFFECT_KV_ETCD_37`, ..., `_34`.
 */
import { defineConfig } from "vitest/config"

const project = (
  name: string,
  files: string,
  options: { env?: Record<string, string>; exclude?: Array<string> } = {}
) => ({
  extends: true as const,
  test: {
    name,
    include: [files],
    exclude: options.exclude ?? [],
    env: options.env ?? {}
  }
})

const versions = ["3.7", "3.6", "3.5", "3.4"].filter((version) =>
  (process.env[`EFFECT_KV_ETCD_${version.replace(".", "")}`] ?? "") !== ""
)
const newest = versions[0] ?? "3.7"

const onEtcd = (version: string) =>
  project(`etcd-${version}`, "packages/etcd/test/**/*.test.ts", {
    env: { EFFECT_KV_ETCD: version },
    exclude: version === newest ? [] : ["**/*.once.test.ts"]
  })

export default defineConfig({
  test: {
    testTimeout: 30_000,
    hookTimeout: 60_000,
    sequence: { concurrent: false },
    // Most of the time of most files is waiting for servers and leases.
    maxWorkers: 3,
    projects: [
      project("core", "packages/core/test/**/*.test.ts"),
      project("memory", "packages/memory/test/**/*.test.ts"),
      ...versions.map(onEtcd),
      project("test-suite", "packages/test-suite/test/**/*.test.ts", { env: { EFFECT_KV_ETCD: newest } }),
      project("chaos", "chaos/test/**/*.test.ts", { env: { EFFECT_KV_ETCD: newest } }),
      project("examples", "examples/test/**/*.test.ts", { env: { EFFECT_KV_ETCD: newest } }),
      project("benchmarks", "benchmarks/test/**/*.test.ts")
    ]
  }
})
