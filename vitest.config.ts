/**
 * One project for each backend, so that a run can say how many cases ran where. The etcd projects run the same files
 * on two servers; `*.once.test.ts` holds what is slow and does not depend on the version, and runs on 3.5 alone.
 *
 * The binaries come from `EFFECT_KV_ETCD_35` and `EFFECT_KV_ETCD_34`, which `npm test` and `npm run vitest` provide.
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

const onEtcd = (version: "3.5" | "3.4", exclude: Array<string> = []) =>
  project(`etcd-${version}`, "packages/etcd/test/**/*.test.ts", { env: { EFFECT_KV_ETCD: version }, exclude })

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
      onEtcd("3.5"),
      onEtcd("3.4", ["**/*.once.test.ts"]),
      project("test-suite", "packages/test-suite/test/**/*.test.ts", { env: { EFFECT_KV_ETCD: "3.5" } }),
      project("chaos", "chaos/test/**/*.test.ts", { env: { EFFECT_KV_ETCD: "3.5" } }),
      project("examples", "examples/test/**/*.test.ts", { env: { EFFECT_KV_ETCD: "3.5" } }),
      project("benchmarks", "benchmarks/test/**/*.test.ts")
    ]
  }
})
