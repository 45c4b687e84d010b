/**
 * Work of a cron: each tick of a job is run once in the fleet, and increments a counter under the fence of its run.
 */
import * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import * as RunOnce from "@effect-kv/core/RunOnce"
import * as Cron from "effect/Cron"
import * as Effect from "effect/Effect"
import * as locks from "./locks.ts"
import type { RecordedClient, Step } from "./Worker.ts"

/** The job of a round. */
export const jobName = (prefix: string): string => `${prefix}tick/0`

const everySecond = Cron.parseUnsafe("* * * * * *", "UTC")

/** Takes part in the cron for a while. A run that is in progress then is interrupted, and its tick not repeated. */
export const tick: Step = (client, random) => {
  const stays = random.int(1000, 4000)
  const work = { hold: random.int(0, 300), increments: 1, byService: random.chance(0.5) }
  return Effect.timeoutOption(cron(client, everySecond, work), stays)
}

/** Runs the job at each tick. A run is recorded as the holding of a lock with the job's name. */
export const cron = (
  client: RecordedClient,
  schedule: Cron.Cron,
  work: locks.Work
): Effect.Effect<never, KvError> =>
  RunOnce.cron(
    jobName(client.prefix),
    schedule,
    (run) =>
      Effect.acquireUseRelease(
        client.recorder.acquired(client.name, run),
        () => locks.incrementing(client, run, work),
        ({ released }) => released
      ),
    { description: client.name, ttl: locks.ttl, onCrash: "skip" }
  ).pipe(Effect.provideService(Kv.Kv, client.kv))
