/**
 * Locks under faults: four processes increment a counter under one lock while holders are paused past their TTL and
 * killed.
 *
 * `EFFECT_KV_CHAOS_SECONDS` sets the duration; the default is 15 seconds.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { EtcdCluster } from "@effect-kv/test-suite/verification"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import { client } from "./support/client.ts"
import * as lockWorkers from "./support/lockWorkers.ts"

const seconds = Number(process.env["EFFECT_KV_CHAOS_SECONDS"] ?? "15")

/** The TTL of the leases in milliseconds. */
const ttl = 2000

const name = "chaos"

/** The tokens of all accepted increments, in the order in which the store accepted them. */
const accepted = Effect.fnUntraced(function*(kv: Kv.Kv) {
  const log = yield* kv.range(KeyRange.prefix(`${name}.log/`), { order: { by: "createRevision" } })
  return log.entries.map((entry) => ({
    token: BigInt(entry.key.slice(`${name}.log/`.length)),
    value: Number(entry.lossyText)
  }))
})

/** The index of the worker that holds the lock, if that is known. Otherwise a random index. */
const victim = Effect.fnUntraced(function*(kv: Kv.Kv, workers: ReadonlyArray<lockWorkers.Worker>) {
  const holder = yield* Effect.provideService(DistLock.holder(name), Kv.Kv, kv)
  const i = workers.findIndex((worker) => `${worker.pid}` === Option.getOrUndefined(holder)?.description)
  return i >= 0 ? i : yield* Random.nextIntBetween(0, workers.length - 1)
})

layer(EtcdCluster.layer(), { excludeTestServices: true, timeout: "2 minutes" })("locks under chaos", (it) => {
  it.effect(
    "no increment is lost and tokens grow while holders are paused and killed",
    () =>
      Effect.gen(function*() {
        const cluster = yield* EtcdCluster.EtcdCluster
        const kv = yield* client({ endpoints: cluster.endpoints })
        const start = lockWorkers.start(cluster.endpoints[0]!, "count", name, ttl)
        const workers = yield* Effect.replicateEffect(start, 4)
        const everyone = [...workers]
        const stopFor = ttl + 1500
        let stops = 0
        let kills = 0
        const untilAccepted = (count: number) =>
          Effect.gen(function*() {
            while ((yield* accepted(kv)).length < count) yield* Effect.sleep("20 millis")
          }).pipe(Effect.timeout("60 seconds"))
        yield* untilAccepted(20)

        // Starts when the workers make progress: on a busy machine they start late.
        const end = Date.now() + seconds * 1000
        while (Date.now() < end) {
          yield* Effect.sleep(yield* Random.nextIntBetween(50, 500))
          const i = yield* victim(kv, workers)
          const worker = workers[i]!
          if (yield* Random.nextBoolean) {
            stops++
            yield* worker.signal("SIGSTOP")
            yield* Effect.sleep(yield* Random.nextIntBetween(ttl - 500, stopFor))
            yield* worker.signal("SIGCONT")
          } else {
            kills++
            yield* worker.signal("SIGKILL")
            workers[i] = yield* start
            everyone.push(workers[i])
          }
        }
        // The worker that was paused or killed last must not block the others.
        const { length } = yield* accepted(kv)
        yield* untilAccepted(length + 10)
        yield* Effect.forEach(workers, (worker) => worker.stop, { concurrency: "unbounded" })

        const increments = yield* accepted(kv)
        assert.isAtLeast(increments.length, length + 10)
        assert.deepStrictEqual(
          increments.map(({ value }) => value),
          increments.map((_, i) => i + 1),
          "no increment was lost"
        )
        increments.forEach(({ token }, i) => {
          if (i > 0) {
            assert.isTrue(token > increments[i - 1]!.token, "tokens grow in the order in which the lock was held")
          }
        })
        assert.deepStrictEqual(yield* kv.get(`${name}.counter`), Option.some(`${increments.length}`))
        yield* Effect.gen(function*() {
          while ((yield* cluster.etcdctl(["lease", "list"])).trim() !== "found 0 leases") {
            yield* Effect.sleep("100 millis")
          }
        }).pipe(Effect.timeout("30 seconds"))
        assert.strictEqual(yield* kv.count(KeyRange.prefix(`${name}/`)), 0)
        assert.deepStrictEqual(yield* Effect.provideService(DistLock.holder(name), Kv.Kv, kv), Option.none())
        const lost = everyone.flatMap((worker) => worker.lines).filter((line) => line._tag === "Ended").length
        yield* Effect.logInfo(
          `${increments.length} increments in ${seconds} s; ${stops} stops, ${kills} kills, ${lost} holds or waits lost`
        )
      }),
    (seconds + 240) * 1000
  )
})
