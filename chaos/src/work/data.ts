/**
 * Work with keys: registers, compare-and-set, transactions over several keys, and lists that grow.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Op from "@effect-kv/core/Op"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Step } from "./Worker.ts"
import { unique } from "./Worker.ts"

/** Puts, reads of all kinds and deletes on a few keys. */
export const register: Step = Effect.fnUntraced(function*(client, random) {
  const { kv, prefix } = client
  const place = random.int(0, 7)
  const key = `${prefix}register/${place}`
  const choice = random.next()
  const previous = random.chance(0.3)
  if (choice < 0.45) return yield* kv.put(key, yield* unique(client), { previous })
  if (choice < 0.75) return yield* kv.get(key)
  if (choice < 0.85) return yield* kv.delete(key, { previous })
  if (choice < 0.9) return yield* kv.range(KeyRange.prefix(`${prefix}register/`), { limit: random.int(1, 10) })
  if (choice < 0.93) {
    return yield* kv.deleteRange(KeyRange.halfOpen(key, `${prefix}register/${random.int(place, 7)}~`), { previous })
  }
  if (choice < 0.96) return yield* kv.get(key, { serializable: true })
  // Reads a recent revision, which may be compacted by then.
  const { revision } = yield* kv.put(key, yield* unique(client))
  yield* Effect.sleep(random.int(0, 50))
  return yield* kv.getEntry(key, { revision })
})

/** Reads, and writes if no other client has written in between. */
export const compareAndSet: Step = Effect.fnUntraced(function*(client, random) {
  const { kv, prefix } = client
  const key = `${prefix}cas/${random.int(0, 3)}`
  const byValue = random.chance(0.4)
  const pause = random.int(0, 5)
  const entry = yield* kv.getEntry(key)
  yield* Effect.sleep(pause)
  const value = yield* unique(client)
  return yield* byValue
    ? kv.testAndSet(key, Option.map(entry, (entry) => entry.value), value)
    : kv.compareAndSet(key, Option.match(entry, { onNone: () => 0n, onSome: (entry) => entry.modRevision }), value)
})

/** Writes several keys, or reads them if a condition on one of them fails. Some transactions are nested. */
export const txn: Step = Effect.fnUntraced(function*(client, random) {
  const { kv, prefix } = client
  const keys = random.shuffle([0, 1, 2, 3, 4, 5]).slice(0, random.int(2, 4)).map((i) => `${prefix}txn/${i}`)
  const nested = random.chance(0.3)
  const deletes = random.chance(0.2)
  const choice = random.next()
  const first = keys[0]!
  const seen = yield* kv.getEntry(first)
  const condition = Option.match(seen, {
    onNone: () => Compare.missing(first),
    onSome: (entry) =>
      choice < 0.4
        ? Compare.modRevision(first, "=", entry.modRevision)
        : choice < 0.7
        ? Compare.value(first, "=", entry.value)
        : Compare.version(first, ">", entry.version - 1)
  })
  const writes = yield* Effect.forEach(
    keys,
    (key, i) => Effect.map(unique(client), (value): Op.Op => deletes && i > 0 ? Op.delete(key) : Op.put(key, value))
  )
  const reads = keys.map((key): Op.Op => Op.get(key))
  const last = writes[writes.length - 1]!
  const then = nested ? [...writes.slice(0, -1), Op.txn({ if: [Compare.exists(first)], then: [last] })] : writes
  return yield* kv.txn({ if: [condition], then, else: reads })
})

/** Appends an element to a list in a text: no element may be lost or added twice. */
export const append: Step = Effect.fnUntraced(function*(client, random) {
  const { kv, prefix } = client
  const key = `${prefix}append/${random.int(0, 2)}`
  const element = yield* unique(client)
  return yield* kv.modify(key, (list) =>
    Option.match(list, {
      onNone: () => element,
      // A long list is replaced, so it does not grow indefinitely.
      onSome: (list) => list.length > 500 ? element : `${list} ${element}`
    }))
})
