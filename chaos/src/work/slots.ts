/**
 * Work under slots: the holder of an index writes a key of that index, fenced.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as Slot from "@effect-kv/core/Slot"
import * as Effect from "effect/Effect"
import * as locks from "./locks.ts"
import type { RecordedClient, Step } from "./Worker.ts"
import { unique } from "./Worker.ts"

/** The slots of a round. Those of the second name cool down. */
export const slotNames = (prefix: string): readonly [string, string] => [`${prefix}slot/0`, `${prefix}slot/1`]

/** How many slots each name has. */
export const size = 2

/** The key that the holder of a slot writes. Its value is the token and a unique part. */
export const usedOf = (slot: string): string => slot.replace("/slot/", "/slot-used/")

/** The token in that value. */
export const tokenOf = (value: string): bigint => BigInt(value.split(" ")[0]!)

/** Acquires a slot and uses its index. */
export const use: Step = (client, random) => {
  const name = random.pick(slotNames(client.prefix))
  const hold = random.chance(0.1) ? random.int(200, 800) : random.int(0, 50)
  const work = { hold, times: random.int(1, 2), byService: random.chance(0.5) }
  return using(client, name, work, random.int(500, 3000))
}

/** Uses a slot, unless all are taken. */
export const using = (
  client: RecordedClient,
  name: string,
  work: { readonly hold: number; readonly times: number; readonly byService: boolean },
  acquireTimeout: number
) =>
  Slot.use(
    name,
    Effect.fnUntraced(function*(slot) {
      const kv = yield* Kv.Kv
      for (let i = 0; i < work.times; i++) {
        yield* Effect.sleep(work.hold)
        const value = `${slot.token} ${yield* unique(client)}`
        yield* work.byService ? client.counters.save(usedOf(slot.key), value) : kv.put(usedOf(slot.key), value)
      }
    }),
    {
      size,
      acquireTimeout,
      ttl: locks.ttl,
      description: client.name,
      ...(name === slotNames(client.prefix)[1] ? { coolDown: "1 second" } : {})
    }
  ).pipe(Effect.catchTag("SlotsTaken", () => Effect.void), Effect.provideService(Kv.Kv, client.kv))
