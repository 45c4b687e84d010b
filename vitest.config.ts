/**
 * One project per backend, so that a run can report how many cases ran where, and one for each version of etcd that was
 * provided. `*.once.test.ts` holds slow tests that do not depend on the version: they run on the newest alone.
 *
 * `npm test` and `npm run vitest` provide the binaries and name their folders in `EFFECT_KV_ETCD_37`, ..., `_34`.
 */
import { defineConfig } from "vitest/config"
import { BaseSequencer, type TestSpecification } from "vitest/node"

/** Whether there is a Postgres server, which no package has for some platforms: see `scripts/lib/postgres.mjs`. */
const hasPostgres = (process.env["EFFECT_KV_POSTGRES"] ?? "") !== ""

const postgresFiles = ["**/postgres.test.ts", "**/*.postgres.test.ts"]

/** Tests that measure their own process: its memory, its CPU time, or the sockets and timers that it has open. */
const measuring = [
  "packages/cluster/test/virtualTime.test.ts",
  "packages/etcd/test/grpc/{channel,interruption,values}.once.test.ts",
  "packages/etcd/test/watchMemory.once.test.ts",
  "packages/memory/test/layers.test.ts"
]

const project = (
  name: string,
  files: string,
  options: {
    env?: Record<string, string>
    exclude?: Array<string>
    maxConcurrency?: number
    testTimeout?: number
  } = {}
) => ({
  extends: true as const,
  test: {
    name,
    include: [files],
    exclude: [...(hasPostgres ? [] : postgresFiles), ...measuring, ...(options.exclude ?? [])],
    env: options.env ?? {},
    ...(options.maxConcurrency === undefined ? {} : { maxConcurrency: options.maxConcurrency }),
    ...(options.testTimeout === undefined ? {} : { testTimeout: options.testTimeout })
  }
})

const versions = ["3.7", "3.6", "3.5", "3.4"].filter((version) =>
  (process.env[`EFFECT_KV_ETCD_${version.replace(".", "")}`] ?? "") !== ""
)
const newest = versions[0] ?? "3.7"

/** Tests of the client alone, or against a scripted server: they run once, beside the newest version. */
const withoutServer = [
  "**/*.once.test.ts",
  "**/grpc/**",
  "**/{codec,endpoints,errors,requests,responses,settings,storeIdentity,tokens}.test.ts",
  "**/{watchBuffer,watchDecode,watchMachine,watchTake}.test.ts"
]

/** Batching is the client's: that the contract holds without it, memory and the newest version show. */
const withoutBatching = "**/conformanceUnbatched.test.ts"

/** Everything runs on the newest version, and what depends on the server on all others. */
const onEtcd = (version: string) =>
  project(`etcd-${version}`, "packages/etcd/test/**/*.test.ts", {
    env: { EFFECT_KV_ETCD: version },
    exclude: version === newest ? [] : [...withoutServer, withoutBatching]
  })

/** The command line, in a terminal only if this machine can give one to tests: see `scripts/lib/terminal.mjs`. */
const cli = project("cli", "packages/cli/test/**/*.test.ts", {
  env: { EFFECT_KV_ETCD: newest },
  exclude: (process.env["EFFECT_KV_SCRIPT"] ?? "") === "" ? ["**/*.terminal.test.ts"] : []
})

/** A file that measures its process has one of its own. */
const ownProcess = {
  extends: true as const,
  test: { name: "own-process", include: measuring, isolate: true, env: { EFFECT_KV_ETCD: newest } }
}

/** The examples and documents. The alerting rules only if this machine has promtool: see `scripts/lib/promtool.mjs`. */
const examples = project("examples", "examples/test/**/*.test.ts", {
  env: { EFFECT_KV_ETCD: newest },
  exclude: (process.env["EFFECT_KV_PROMTOOL"] ?? "") === "" ? ["**/*.promtool.test.ts"] : []
})

/** A statement on Postgres uses a core for longer than one on etcd, and cases have deadlines of seconds. */
const maxConcurrency = 8
/** Behind PgBouncer, if it could be provided: see `scripts/lib/pgbouncer.mjs`. */
const withoutPgBouncer = (process.env["EFFECT_KV_PGBOUNCER"] ?? "") === "" ? ["**/pgbouncer.test.ts"] : []
/** With a small disk, if this machine can give one to a server: see `scripts/lib/smallDisk.mjs`. */
const withoutSmallDisk = (process.env["EFFECT_KV_SMALL_DISK"] ?? "") === "" ? ["**/*.smallDisk.test.ts"] : []
/**
 * On the newest Postgres everything, on the oldest what depends on the server: if their binaries exist for this platform,
 * see `scripts/lib/postgres.mjs`.
 */
const oldestPostgres = process.env["EFFECT_KV_POSTGRES_15"] ?? ""
/** A test waits for several conditions. Each wait ends by itself and says what it waited for: see `support/until.ts`. */
const postgresTimeout = 120_000
const postgres = [
  ...(!hasPostgres ? [] : [
    project("postgres", "packages/postgres/test/**/*.test.ts", {
      exclude: [...withoutPgBouncer, ...withoutSmallDisk],
      maxConcurrency,
      testTimeout: postgresTimeout
    })
  ]),
  ...(oldestPostgres === "" ? [] : [
    project("postgres-15", "packages/postgres/test/{conformance,failover,fence,schema,entryWrites}.test.ts", {
      env: { EFFECT_KV_POSTGRES: oldestPostgres },
      maxConcurrency,
      testTimeout: postgresTimeout
    })
  ])
]

/** Random faults, on Postgres only if there is a server of it. */
const chaos = project("chaos", "chaos/test/**/*.test.ts", {
  env: { EFFECT_KV_ETCD: newest },
  exclude: hasPostgres ? [] : ["**/postgres-chaos.test.ts"]
})

/** Against Go's client: if its program was built, see `scripts/lib/goProgram.mjs`. */
const interop = (process.env["EFFECT_KV_GO_PROGRAM"] ?? "") === ""
  ? []
  : [project("interop", "interop/test/**/*.test.ts", { env: { EFFECT_KV_ETCD: newest } })]

/** Files of half a minute and more. Of the last files to start, one of them would run alone for most of its time. */
const longFiles =
  /(chaos|EtcdCluster|simulation(-batched)?|conformance\w*|silence\.once|failover\.once|realNetworks\.once|balancer\.once)\.test\.ts$/

class LongestFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>): Promise<Array<TestSpecification>> {
    const isLong = ({ moduleId }: TestSpecification) => longFiles.test(moduleId)
    const sorted = await super.sort(files)
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))]
  }
}

export default defineConfig({
  test: {
    // Only for what hangs: beside other work a test takes ten times as long as alone.
    testTimeout: 60_000,
    hookTimeout: 120_000,
    sequence: { concurrent: false, sequencer: LongestFirst },
    // The files of a project run one after the other in the processes of a few workers: a process for each file would load
    // Effect and compile the library 260 times, which is more than half of the CPU time of a run. So a file must restore
    // what it changes in its process (variables of the environment, listeners, globals), provide its own `MetricRegistry`
    // when it reads metrics, and leave no server, timer or fiber behind. Projects share no process.
    isolate: false,
    // Most of the time of most files is waiting for servers and leases.
    maxWorkers: 3,
    // The conformance cases that wait run concurrently.
    maxConcurrency: 16,
    projects: [
      project("core", "packages/core/test/**/*.test.ts"),
      project("memory", "packages/memory/test/**/*.test.ts"),
      ...versions.map(onEtcd),
      ...postgres,
      project("test-suite", "packages/test-suite/test/**/*.test.ts", { env: { EFFECT_KV_ETCD: newest } }),
      project("cluster", "packages/cluster/test/**/*.test.ts", { env: { EFFECT_KV_ETCD: newest } }),
      project("persistence", "packages/persistence/test/**/*.test.ts", { env: { EFFECT_KV_ETCD: newest } }),
      project("reactivity", "packages/reactivity/test/**/*.test.ts", { env: { EFFECT_KV_ETCD: newest } }),
      ownProcess,
      cli,
      chaos,
      examples,
      ...interop,
      project("benchmarks", "benchmarks/test/**/*.test.ts")
    ]
  }
})
