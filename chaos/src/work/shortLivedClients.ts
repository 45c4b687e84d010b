/**
 * Short-lived clients that do a little of everything while servers and links fail.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as TempKey from "@effect-kv/core/TempKey"
import type * as Watch from "@effect-kv/core/Watch"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import * as leases from "./leases.ts"
import * as locks from "./locks.ts"
import type { Step } from "./Worker.ts"
import { unique } from "./Worker.ts"

/** How long closing a client may take: its cleanup is bounded in time. An event-loop stall is included. */
const closesWithin = Duration.seconds(10)

/** Whether a watch belongs to a short-lived client. */
export const isOfShortLivedClient = ({ only }: Watch.WatchRequest): boolean => only === "Put"

/** Opens a client and closes it in the middle of its work. */
export const shortLivedClient: Step = (client, random) => {
  const stays = random.int(50, 1500)
  const visiting = Effect.acquireUseRelease(
    Scope.make(),
    (scope) =>
      Scope.provide(
        Effect.gen(function*() {
          const visitor = { ...client, ...(yield* client.open) }
          const { kv, prefix } = visitor
          yield* kv.put(`${prefix}register/0`, yield* unique(visitor))
          const watcher = yield* backendOf(kv).watch({ range: KeyRange.prefix(prefix), only: "Put" })
          yield* Effect.forkScoped(Effect.forever(watcher.take))
          yield* Effect.provideService(
            TempKey.make(`${prefix}temporary/0`, { value: yield* unique(visitor), ttl: "2 seconds" }),
            Kv.Kv,
            kv
          ).pipe(
            Effect.catchTag("TempKeyTaken", () => Effect.void)
          )
          yield* Effect.forkScoped(locks.increment(visitor, random))
          yield* Effect.forkScoped(leases.lease(visitor, random))
          yield* Effect.sleep(stays)
        }),
        scope
      ),
    (scope, exit) =>
      Effect.flatMap(Effect.timed(Scope.close(scope, exit)), ([took]) =>
        Duration.isGreaterThan(took, closesWithin)
          ? Effect.die(new Error(`closing a client took ${Duration.format(took)}`))
          : Effect.void)
  )
  return Effect.delay(visiting, random.int(500, 3000))
}
