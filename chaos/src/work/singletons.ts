/**
 * Work of a singleton: of all instances one runs, and after each run the others get their turn.
 */
import * as Election from "@effect-kv/core/Election"
import * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as locks from "./locks.ts"
import type { RecordedClient, Step } from "./Worker.ts"

/** The election of a round's singleton. */
export const singletonName = (prefix: string): string => `${prefix}singleton/0`

/** Is an instance for a while. Its runs increment the counter, and some of them fail. */
export const instance: Step = (client, random) => {
  const stays = random.int(1000, 4000)
  const work = {
    hold: random.chance(0.2) ? random.int(200, 600) : random.int(0, 30),
    increments: random.int(1, 2),
    byService: random.chance(0.5)
  }
  return Effect.timeoutOption(singleton(client, work), stays)
}

/** Runs whenever it leads, and campaigns again after each run. */
export const singleton = (client: RecordedClient, work: locks.Work): Effect.Effect<void, KvError> =>
  Election.singleton(
    singletonName(client.prefix),
    ({ isLeader, lock }) =>
      Effect.acquireUseRelease(
        client.recorder.acquired(client.name, lock),
        () => locks.incrementing(client, lock, work),
        (holding) => Effect.flatMap(isLeader, (leads) => leads ? holding.released : holding.lost)
      ),
    { value: client.name, ttl: locks.ttl, schedule: Schedule.spaced("50 millis") }
  ).pipe(Effect.provideService(Kv.Kv, client.kv))
