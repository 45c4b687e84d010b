/**
 * Mutants of queue workers that the check of queues must find. Each makes the fault happen for certain.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as Op from "@effect-kv/core/Op"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import { EtcdCluster, Recorder } from "@effect-kv/test-suite/verification"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Notes from "../src/Notes.ts"
import * as Queues from "../src/Queues.ts"
import * as Rounds from "../src/Round.ts"
import * as queues from "../src/work/queues.ts"

const prefix = "r/"

const offering: queues.Life = { offers: [{ isCustomId: true, delay: 0 }], takers: [], stays: 0 }

const taking = (hold: queues.Handling["hold"]): queues.Life => ({
  offers: [],
  takers: [[{ hold, ends: "succeeds" }]],
  stays: 20_000
})

/** Two clients of an empty store, and what the check says of them. */
const begin = Effect.fnUntraced(function*(mutateBackend?: Rounds.Options["mutateBackend"]) {
  const cluster = yield* EtcdCluster.EtcdCluster
  yield* cluster.etcdctl(["del", "", "--prefix"])
  const server = yield* cluster.watchFrom((yield* cluster.revision) + 1n)
  const recorder = yield* Recorder.make
  const open = Effect.map(
    Effect.suspend(() => Layer.build(Layer.fresh(EtcdLayer.layer({ endpoints: cluster.endpoints })))),
    Context.get(Kv.Kv)
  )
  const client = Effect.fnUntraced(function*(name: string) {
    return yield* Rounds.record({ name, kv: yield* open, open }, recorder, Notes.make([name]), {
      prefix,
      ...(mutateBackend === undefined ? {} : { mutateBackend })
    })
  })
  return {
    c1: yield* client("c1"),
    c2: yield* client("c2"),
    found: Effect.gen(function*() {
      return Queues.find(yield* server.upTo(yield* cluster.revision), prefix).join("\n")
    })
  }
})

layer(EtcdCluster.layer(), { excludeTestServices: true })("the check of queues finds", (it) => {
  it.effect("nothing wrong with workers that fail, are interrupted and do their work", () =>
    Effect.gen(function*() {
      const { c1, c2, found } = yield* begin()
      yield* queues.living(c1, {
        ...offering,
        takers: [[{ hold: 0, ends: "interrupted" }, { hold: 0, ends: "fails" }]],
        stays: 2000
      })
      yield* queues.living(c2, taking(0))
      assert.strictEqual(yield* found, "")
    }))

  it.effect("a worker that completes an item which another has claimed", () =>
    Effect.gen(function*() {
      const { c1, c2, found } = yield* begin((_, backend) => unfencedEnds(backend))
      yield* queues.living(c1, offering)
      const isCompleted = yield* Deferred.make<void>()
      const late = yield* Effect.forkScoped(queues.living(c1, taking(Deferred.await(isCompleted))))
      const claims = KeyRange.prefix(`${queues.queuesOf(prefix)}${queues.queueName}/claim/`)
      yield* Effect.repeat(c2.kv.count(claims), { until: (count) => count === 1 })
      // Its session ends, as if the process had been frozen.
      const alive = yield* c2.kv.range(KeyRange.prefix(`${queues.queuesOf(prefix)}${queues.queueName}/worker/`))
      yield* c2.kv.delete(alive.entries.find(({ key }) => key.endsWith("/alive"))!.key)
      yield* queues.living(c2, taking(0))
      yield* Deferred.succeed(isCompleted, undefined)
      yield* Fiber.join(late)
      assert.match(yield* found, /CompletedTwice at revision \d+: the item "0\/\S+" was completed again/)
    }))
})

/** Ends claims without their fence. */
const unfencedEnds = (backend: KvBackend): KvBackend => {
  const isClaim = (compare: Op.Txn["if"][number]) => "key" in compare && compare.key.includes("/claim/")
  const mutate = (op: Op.Op): Op.Op =>
    op._tag === "Txn"
      ? Op.txn({
        if: op.if.filter((compare) => !isClaim(compare)),
        then: op.then.map(mutate),
        else: op.else.map(mutate)
      })
      : op
  return { ...backend, execute: (op) => backend.execute(mutate(op) as typeof op) }
}
