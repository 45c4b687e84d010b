/**
 * Mutants of runners that the check of shards must find. Each makes the fault happen for certain.
 */
import * as Fence from "@effect-kv/core/Fence"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as Op from "@effect-kv/core/Op"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import { EtcdCluster, Recorder } from "@effect-kv/test-suite/verification"
import { assert, layer } from "@effect/vitest"
import { ShardId } from "effect/cluster"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Notes from "../src/Notes.ts"
import * as Rounds from "../src/Round.ts"
import * as Shards from "../src/Shards.ts"
import * as shards from "../src/work/shards.ts"
import { gate } from "./mutants.ts"

const prefix = "r/"

const life: shards.Life = { rounds: 1, rest: 0, wanted: [ShardId.make("default", 1)], crashes: true }

/** Two clients of an empty store, and what the check says of them. */
const begin = Effect.fnUntraced(function*(mutants: Pick<Rounds.Options, "mutateBackend" | "mutateWrite">) {
  const cluster = yield* EtcdCluster.EtcdCluster
  yield* cluster.etcdctl(["del", "", "--prefix"])
  const server = yield* cluster.watchFrom((yield* cluster.revision) + 1n)
  const recorder = yield* Recorder.make
  const open = Effect.map(
    Effect.suspend(() => Layer.build(Layer.fresh(EtcdLayer.layer({ endpoints: cluster.endpoints })))),
    Context.get(Kv.Kv)
  )
  const client = Effect.fnUntraced(function*(name: string) {
    return yield* Rounds.record({ name, kv: yield* open, open }, recorder, Notes.make([name]), { prefix, ...mutants })
  })
  return {
    c1: yield* client("c1"),
    c2: yield* client("c2"),
    found: Effect.gen(function*() {
      return Shards.find(yield* server.upTo(yield* cluster.revision), prefix).join("\n")
    })
  }
})

layer(EtcdCluster.layer(), { excludeTestServices: true })("the check of shards finds", (it) => {
  it.effect("nothing wrong with runners that do their work one after the other", () =>
    Effect.gen(function*() {
      const { c1, c2, found } = yield* begin({})
      yield* shards.living(c1, { ...life, crashes: false })
      yield* shards.living(c2, { ...life, crashes: false })
      assert.strictEqual(yield* found, "")
    }))

  it.effect("a runner that writes without its fence, after another has acquired the shard", () =>
    Effect.gen(function*() {
      const { begun, pass, release } = yield* gate
      const { c1, c2, found } = yield* begin({
        mutateWrite: (write) => Fence.unfenced(Effect.andThen(pass, write))
      })
      const late = yield* Effect.forkScoped(Effect.exit(shards.living(c1, life)))
      yield* begun
      yield* c2.kv.delete(`${shards.clusterOf(prefix)}/locks/default:1`)
      yield* c2.kv.put(`${shards.clusterOf(prefix)}/locks/default:1`, "c2:1")
      yield* release
      yield* Fiber.join(late)
      assert.match(yield* found, /WriteWithoutLock: .* whose lock was held with token/)
    }))

  it.effect("a runner that acquires a shard which another owns", () =>
    Effect.gen(function*() {
      const { c1, c2, found } = yield* begin({
        mutateBackend: (client, backend) => client === "c1" ? backend : acquiringWhatIsHeld(backend)
      })
      yield* shards.living(c1, life)
      yield* Effect.exit(shards.living(c2, life))
      assert.match(yield* found, /LockOverwritten: the lock of the shard default:1/)
    }))
})

/** Acquires a lock whether it is held or not. */
const acquiringWhatIsHeld = (backend: KvBackend): KvBackend => {
  const isLock = (op: Op.Op) => op._tag === "Put" && op.key.includes("/locks/")
  const mutate = (op: Op.Op): Op.Op =>
    op._tag === "Txn"
      ? Op.txn({ if: op.then.some(isLock) ? [] : op.if, then: op.then.map(mutate), else: op.else.map(mutate) })
      : op
  return { ...backend, execute: (op) => backend.execute(mutate(op)) }
}
