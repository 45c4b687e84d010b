/**
 * Helpers to write and read the entries of a case.
 */
import type { Compare } from "@effect-kv/core/Compare"
import type { Entry } from "@effect-kv/core/Entry"
import type * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { promptly } from "./Case.ts"

/** Puts the keys in transactions of a hundred. Default value: `value of <key>`. */
export const putAll = Effect.fnUntraced(function*(
  kv: Kv.Kv,
  keys: ReadonlyArray<string>,
  value: (key: string) => string = (key) => `value of ${key}`
) {
  for (let i = 0; i < keys.length; i += 100) {
    yield* kv.txn({ then: keys.slice(i, i + 100).map((key) => Op.put(key, value(key))) })
  }
})

/** Starts four fibers that put the key until the scope closes. The effect waits until each of them has put again. */
export const putInLoops = Effect.fnUntraced(function*(kv: Kv.Kv, key: string) {
  const counts = [0, 0, 0, 0]
  for (const fiber of counts.keys()) {
    const put = Effect.map(kv.put(key, `${fiber}`), () => counts[fiber]!++)
    // Each put is waited for: the next case must not find one that is still in flight.
    yield* Effect.forkScoped(Effect.forever(Effect.uninterruptible(put)))
  }
  return Effect.suspend(() => {
    const before = [...counts]
    const haveAllPut = (): boolean => counts.every((count, fiber) => count > before[fiber]!)
    return promptly("every fiber has put again", Effect.repeat(kv.get(key), { until: haveAllPut }))
  })
})

/**
 * Writes whether a condition holds at that moment, as `true` or `false`. In one transaction: to read an earlier revision
 * later may be impossible, because other cases compact the history of a store that they share.
 */
export const putWhether = (kv: Kv.Kv, key: string, condition: () => Compare): Effect.Effect<unknown, KvError> =>
  Effect.suspend(() => kv.txn({ if: [condition()], then: [Op.put(key, "true")], else: [Op.put(key, "false")] }))

/** The entry of a key that must exist. */
export const entryOf = (kv: Kv.Kv, key: string): Effect.Effect<Entry, KvError> =>
  Effect.flatMap(kv.getEntry(key), (entry) =>
    Option.isSome(entry)
      ? Effect.succeed(entry.value)
      : Effect.die(new Error(`the key ${JSON.stringify(key)} does not exist`)))

/** The value of a key as text, `undefined` if the key is missing. */
export const textOf = (kv: Kv.Kv, key: string): Effect.Effect<string | undefined, KvError> =>
  Effect.map(kv.get(key), Option.getOrUndefined)

export const keysOf = (response: Op.RangeResponse): ReadonlyArray<string> => response.entries.map((entry) => entry.key)

export const textsOf = (response: Op.RangeResponse): ReadonlyArray<string> =>
  response.entries.map((entry) => entry.lossyText)
