/**
 * `get` and `put` on etcd: single calls, against the `etcd3` package's public API and its raw client.
 */
import * as Effect from "effect/Effect"
import * as Measure from "../Measure.ts"
import type { Scenario } from "../Scenario.ts"
import * as Subjects from "../Subjects.ts"

const inFlights = [1, 16, 64, 256]

const scenario = (name: "get" | "put"): Scenario => ({
  name,
  run: Effect.fnUntraced(function*({ etcd, options }) {
    const kv = yield* Subjects.effectKv(etcd.endpoints)
    const client = yield* Subjects.etcd3(etcd.endpoints)
    const key = (caller: number) => `bench/${name}/${caller}`
    for (let caller = 0; caller < 256; caller++) yield* kv.put(key(caller), Subjects.value)
    const value = Buffer.from(Subjects.value)
    const subjects: Record<typeof name, ReadonlyArray<Measure.Subject>> = {
      get: [
        { name: "etcd3", op: (caller) => Effect.promise(() => client.get(key(caller)).string()) },
        { name: "etcd3 raw", op: (caller) => Effect.promise(() => client.kv.range({ key: Buffer.from(key(caller)) })) },
        { name: "effect-kv", op: (caller) => kv.get(key(caller)) }
      ],
      put: [
        { name: "etcd3", op: (caller) => Effect.promise(() => client.put(key(caller)).value(Subjects.value).exec()) },
        {
          name: "etcd3 raw",
          op: (caller) => Effect.promise(() => client.kv.put({ key: Buffer.from(key(caller)), value }))
        },
        { name: "effect-kv", op: (caller) => kv.put(key(caller), Subjects.value) }
      ]
    }
    const rows = yield* Effect.forEach(
      inFlights,
      (inFlight) => Measure.alternate(name, inFlight, subjects[name], options)
    )
    return rows.flat()
  })
})

export const get = scenario("get")
export const put = scenario("put")
