/**
 * A thousand writes whose responses are lost: how each is reported, and what the server's history says about it.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import { EtcdCluster, TcpProxy } from "@effect-kv/test-suite/verification"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { client, reason } from "./support/client.ts"
import { eventually } from "./support/watching.ts"

const total = 1000
const batch = 50

type Kind = "put" | "delete" | "txn"

const kindOf = (i: number): Kind => (["put", "delete", "txn"] as const)[i % 3]!

const numbers = (from: number, to: number): ReadonlyArray<number> =>
  Array.from({ length: to - from }, (_, i) => from + i)

layer(EtcdCluster.layer(), { excludeTestServices: true, timeout: "60 seconds" })((it) => {
  for (const batching of [undefined, false] as const) {
    const name = batching === false ? "alone" : "batched"
    const key = (kind: Kind, i: number): string => `${name}/${kind}/${i}`

    const write = (kv: Kv.Kv, i: number): Effect.Effect<unknown, KvError.KvError> => {
      switch (kindOf(i)) {
        case "put":
          return kv.put(key("put", i), `${i}`)
        case "delete":
          return kv.delete(key("delete", i))
        case "txn":
          return kv.txn({
            if: [Compare.missing(key("txn", i))],
            then: [Op.put(key("txn", i), `${i}`), Op.put(`${key("txn", i)}/second`, `${i}`)]
          })
      }
    }

    it.effect(`${total} writes sent ${name} with their responses lost are each Indeterminate and applied exactly once`, () =>
      Effect.gen(function*() {
        const cluster = yield* EtcdCluster.EtcdCluster
        const proxy = yield* TcpProxy.make({ target: cluster.endpoints[0]! })
        const direct = yield* client({ endpoints: cluster.endpoints })
        const kv = yield* client({ endpoints: [proxy.endpoint], ...(batching === undefined ? {} : { batching }) })
        const deletions = numbers(0, total).filter((i) => kindOf(i) === "delete")
        yield* Effect.forEach(deletions, (i) => direct.put(key("delete", i), "there"), { concurrency: "unbounded" })
        const from = (yield* cluster.revision) + 1n

        const remaining = direct.count(KeyRange.prefix(`${name}/delete/`))
        const written = Effect.all([
          direct.count(KeyRange.prefix(`${name}/put/`)),
          direct.count(KeyRange.prefix(`${name}/txn/`))
        ])
        for (let first = 0; first < total; first += batch) {
          yield* kv.get("connected")
          yield* proxy.dropResponses
          const these = numbers(first, first + batch)
          const fiber = yield* Effect.forkChild(
            Effect.forEach(these, (i) => reason(write(kv, i)), { concurrency: "unbounded" })
          )
          const done = (kind: Kind) => numbers(0, first + batch).filter((i) => kindOf(i) === kind).length
          yield* eventually(Effect.gen(function*() {
            const [puts, txns] = yield* written
            return puts === done("put") && txns === 2 * done("txn") &&
              (yield* remaining) === deletions.length - done("delete")
          }))
          // The connection has lost bytes, so it must be cut.
          yield* proxy.heal
          const reasons = yield* Fiber.join(fiber)
          assert.deepStrictEqual(new Set(reasons.map(({ _tag }) => _tag)), new Set(["Indeterminate"]))
        }

        const history = yield* cluster.watchFrom(from)
        const changes = yield* history.upTo(yield* cluster.revision)
        const times = Map.groupBy(changes, (change) => `${change.type} ${change.key}`)
        for (const i of numbers(0, total)) {
          const kind = kindOf(i)
          const of = times.get(`${kind === "delete" ? "delete" : "put"} ${key(kind, i)}`) ?? []
          assert.strictEqual(of.length, 1, `${kind} ${i}`)
          if (kind !== "txn") continue
          const second = times.get(`put ${key(kind, i)}/second`) ?? []
          assert.deepStrictEqual(second.map((change) => change.modRevision), [of[0]!.modRevision])
        }
        const txns = numbers(0, total).filter((i) => kindOf(i) === "txn").length
        assert.strictEqual(changes.length, total + txns, "no other change was made")
      }))
  }
})
