/**
 * Lists the source files that take part in one put and in one lock on etcd, counted by V8's coverage.
 *
 *     node scripts/run.mjs --etcd node benchmarks/src/filesOfACall.ts
 *
 * The call has run before, so nothing is counted that only the first call needs: connecting, granting a lease. A file counts
 * if one of its functions runs during the call.
 */
import { DistLock, Kv } from "@effect-kv/core"
import { EtcdLayer } from "@effect-kv/etcd"
import { EtcdCluster } from "@effect-kv/test-suite/verification"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { Session } from "node:inspector/promises"
import { relative } from "node:path"
import { fileURLToPath } from "node:url"

const packages = fileURLToPath(new URL("../../packages", import.meta.url))

/** Those of the packages' own sources in which a function ran since the last call. */
const filesThatRan = (inspector: Session): Effect.Effect<ReadonlyArray<string>> =>
  Effect.map(Effect.promise(() => inspector.post("Profiler.takePreciseCoverage")), ({ result }) =>
    result
      .filter(({ url }) => /\/packages\/(core|etcd)\/src\//.test(url))
      .filter(({ functions }) =>
        functions.some(({ functionName, ranges }) => functionName !== "" && ranges[0]!.count > 0)
      )
      .map(({ url }) => relative(packages, fileURLToPath(url)))
      .sort())

const report = Effect.fnUntraced(function*(
  inspector: Session,
  title: string,
  call: Effect.Effect<unknown, unknown, Kv.Kv>
) {
  yield* call
  yield* Effect.sleep("300 millis")
  yield* filesThatRan(inspector)
  yield* call
  const files = yield* filesThatRan(inspector)
  yield* Console.log(`${title}: ${files.length} files\n${files.map((file) => `  ${file}`).join("\n")}`)
})

const main = Effect.gen(function*() {
  const cluster = yield* EtcdCluster.make()
  const inspector = new Session()
  inspector.connect()
  yield* Effect.promise(() => inspector.post("Profiler.enable"))
  yield* Effect.promise(() => inspector.post("Profiler.startPreciseCoverage", { callCount: true, detailed: false }))
  yield* Effect.gen(function*() {
    yield* report(inspector, "put", Kv.put("a", "1"))
    yield* report(inspector, "lock", DistLock.withDistLock(Effect.void, "lock"))
  }).pipe(Effect.provide(EtcdLayer.layer({ endpoints: cluster.endpoints })))
}).pipe(Effect.scoped)

NodeRuntime.runMain(main)
