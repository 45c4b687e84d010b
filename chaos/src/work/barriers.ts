/**
 * Work with a barrier: each client is a participant, and all enter one round after the other.
 */
import * as Barrier from "@effect-kv/core/Barrier"
import * as Kv from "@effect-kv/core/Kv"
import * as Effect from "effect/Effect"
import * as locks from "./locks.ts"
import type { RecordedClient, Step } from "./Worker.ts"

/** The barrier of a round. */
export const barrierName = (prefix: string): string => `${prefix}barrier/0`

/** The key of its record. */
export const recordOf = (name: string): string => `${name}/barrier/current`

/** How many participants open it. */
export const parties = 3

/** The round and the participant of a key, if it is a participant's. */
export const participantOf = (
  name: string,
  key: string
): { readonly round: number; readonly id: string } | undefined => {
  const match = key.startsWith(`${name}/barrier/`) ? /^(\d+)\/p:(.+)$/.exec(key.slice(`${name}/barrier/`.length)) : null
  return match === null ? undefined : { round: Number(match[1]), id: match[2]! }
}

/** Enters, stays for a moment, and leaves. Some participants give up. */
export const meet: Step = (client, random) => {
  const givesUpAfter = random.chance(0.1) ? random.int(10, 800) : random.int(4000, 8000)
  return Effect.timeoutOption(entering(client, Effect.sleep(random.int(0, 30))), givesUpAfter)
}

/** Enters and stays while an effect runs. The round that opened is noted. */
export const entering = (client: RecordedClient, meanwhile: Effect.Effect<void>) =>
  Effect.scoped(Effect.gen(function*() {
    const round = yield* Barrier.enter(barrierName(client.prefix), {
      parties,
      id: client.name,
      onLate: "next",
      ttl: locks.ttl
    })
    client.notes.barrierPasses.push({ participant: client.name, round })
    yield* meanwhile
  })).pipe(
    // Its lease or that of another was lost, or its key of before is still being removed.
    Effect.catchTags({ BarrierBroken: () => Effect.void, BarrierRejected: () => Effect.void }),
    Effect.provideService(Kv.Kv, client.kv)
  )
