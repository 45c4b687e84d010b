/**
 * Correct histories from real runs: several clients of a store in memory, over links that delay and lose responses.
 */
import * as Batching from "@effect-kv/core/Batching"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { Changes, Recorder, Workload } from "@effect-kv/test-suite/verification"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import { TestClock } from "effect/testing"

/** A history with the changes of the store. */
export interface Run extends Workload.Finished {
  readonly changes: ReadonlyArray<Changes.Change>
}

const yields = (most: number) =>
  Effect.flatMap(Random.nextIntBetween(0, most), (times) => Effect.repeat(Effect.yieldNow, { times }))

const lostResponse = KvError.fail(new KvError.Indeterminate({ message: "a test fault lost the response" }))
const unreachable = KvError.fail(new KvError.Unavailable({ message: "a test fault made the store unreachable" }))

/** Delays calls, and loses this percentage of writes and lease calls: the request, the response, or until later. */
export const lossy = (lost: number) => (backend: KvBackend): KvBackend => {
  const through = <A>(call: Effect.Effect<A, KvError.KvError>, isWrite: boolean): Effect.Effect<A, KvError.KvError> =>
    Effect.gen(function*() {
      yield* yields(4)
      const draw = yield* Random.nextIntBetween(1, 100)
      if (draw > lost) return yield* Effect.tap(call, yields(4))
      if (draw % 4 === 0 || !isWrite) return yield* unreachable
      if (draw % 4 === 1) yield* Effect.ignore(call)
      if (draw % 4 === 2) yield* Effect.forkDetach(Effect.andThen(yields(30), call))
      return yield* lostResponse
    })
  return {
    ...backend,
    execute: (op) => through(backend.execute(op), Op.isWrite(op)),
    watch: (request) => Effect.andThen(yields(4), backend.watch(request)),
    leaseGrant: (options) => through(backend.leaseGrant(options), true),
    leaseKeepAlive: (id) => through(backend.leaseKeepAlive(id), true),
    leaseRevoke: (id) => through(backend.leaseRevoke(id), true)
  }
}

/** How to make a history. */
export interface Options extends Partial<Workload.Options> {
  readonly seed: number
  readonly clients?: number
  readonly lost?: number
  /** Whether all clients share one connection that batches operations. */
  readonly batched?: boolean
}

/** Of every four histories, one is without faults, one with batching, one with lost responses, and one with both. */
export const ofSeed = (seed: number): Effect.Effect<Run> =>
  make({
    seed,
    batched: seed % 2 === 1,
    lost: seed % 4 >= 2 ? 15 : 0,
    interrupted: seed % 4 >= 2 ? 5 : 0,
    clients: seed % 2 === 1 ? 10 : 4,
    operations: seed % 2 === 1 ? 10 : 25
  })

/** Few concurrent calls, so that all their orders can be searched, with faults for every other seed. */
export const smallOfSeed = (seed: number): Effect.Effect<Run> =>
  make({ seed, clients: 3, operations: 15, lost: seed % 2 === 0 ? 0 : 8, interrupted: seed % 2 === 0 ? 0 : 4 })

/** Makes a history. Must run with the test clock. */
export const make = Effect.fnUntraced(function*(options: Options): Effect.fn.Return<Run> {
  const { clients = 4, lost = 0, operations = 25, seed } = options
  const run = Effect.scoped(Effect.gen(function*() {
    const store = yield* MemoryStore.make()
    const direct = yield* store.connect
    const server = yield* Recorder.make
    const read = yield* Workload.watch(server.client("server")(direct), "")
    const recorder = yield* Recorder.make
    const connect = Effect.map(store.connect, lossy(lost))
    const shared = Batching.batched({ maxInFlight: 1 })(yield* connect)
    const backends = yield* Effect.forEach(
      Array.from({ length: clients }),
      () => options.batched === true ? Effect.succeed(shared) : connect
    )
    yield* Effect.forkScoped(Effect.forever(Effect.andThen(TestClock.adjust("50 millis"), Effect.yieldNow)))
    const watchers = yield* Effect.forEach(
      [0, 1],
      (i) => Workload.watch(recorder.client(`watcher ${i}`)(backends[0]!))
    )
    yield* Workload.run(recorder, backends, { ...options, operations })
    const finished = yield* Workload.finish(recorder, direct, [...watchers, read])
    const [everything] = (yield* server.history).watches
    return {
      ...finished,
      changes: Changes.fromBatches(everything!.batches).filter((change) => change.modRevision <= finished.revision)
    }
  }))
  return yield* Effect.orDie(Random.withSeed(run, `${seed}`))
})
