/**
 * The memory backend with 100,000 live keys, against Effect's `KeyValueStore` in memory, a bare `Map` and `keyv`.
 *
 * The others have no transactions, ranges or history. Each does what comes closest.
 */
import { Compare, KeyRange, Op } from "@effect-kv/core"
import * as Effect from "effect/Effect"
import * as Measure from "../Measure.ts"
import type { Scenario } from "../Scenario.ts"
import * as Calls from "../subjects/Calls.ts"
import * as Stores from "../subjects/stores.ts"

const every = 100

const scenario = (
  name: string,
  subjects: (stores: Stores.Stores, next: () => string) => ReadonlyArray<Measure.Subject>,
  more?: Partial<Measure.Options>
): Scenario => ({
  name: `memory-${name}`,
  run: Effect.fnUntraced(function*({ options, stores }) {
    const chosen = subjects(yield* stores, Stores.shuffled())
    return yield* Measure.alternate(`memory-${name}`, 1, chosen, { ...options, every, ...more })
  })
})

export const get = scenario("get", ({ keyv, kv, map, store }, next) => [
  { name: "KeyValueStore", effect: () => store.get(next()) },
  { name: "Map", sync: () => map.get(next()) },
  { name: "keyv", promise: () => keyv.get(next()) },
  { name: "effect-kv", effect: () => kv.get(next()) }
])

export const put = scenario("put", ({ keyv, kv, map, store }, next) => [
  { name: "KeyValueStore", effect: () => store.set(next(), Calls.value) },
  { name: "Map", sync: () => map.set(next(), Calls.value) },
  { name: "keyv", promise: () => keyv.set(next(), Calls.value) },
  { name: "effect-kv", effect: () => kv.put(next(), Calls.value) }
])

const missing = Effect.succeed<string | undefined>(undefined)

/** Writes a key and reads another if the first one has the value. */
export const txn = scenario("txn", ({ keyv, kv, map, store }, next) => [
  {
    name: "KeyValueStore",
    effect: () => {
      const key = next()
      return Effect.flatMap(
        store.get(key),
        (value) => value === Calls.value ? Effect.andThen(store.set(key, Calls.value), store.get(next())) : missing
      )
    }
  },
  {
    name: "Map",
    sync: () => {
      const key = next()
      return map.get(key) === Calls.value ? map.set(key, Calls.value).get(next()) : undefined
    }
  },
  {
    name: "keyv",
    promise: async () => {
      const key = next()
      if (await keyv.get(key) !== Calls.value) return undefined
      await keyv.set(key, Calls.value)
      return keyv.get(next())
    }
  },
  {
    name: "effect-kv",
    effect: () => {
      const key = next()
      return kv.txn({
        if: [Compare.value(key, "=", Calls.value)],
        then: [Op.put(key, Calls.value), Op.get(next())]
      })
    }
  }
])

/** Reads a hundred adjacent keys. A store without order has to scan all keys. */
export const range = scenario("range", ({ kv, map }, next) => {
  const prefix = () => next().slice(0, -2)
  return [
    {
      name: "Map",
      sync: () => {
        const wanted = prefix()
        return [...map].filter(([key]) => key.startsWith(wanted)).sort()
      }
    },
    { name: "effect-kv", effect: () => kv.range(KeyRange.prefix(prefix())) }
  ]
}, { every: 1 })
