/**
 * Work of leaders: a counter that only the leader increments, fenced, and observers that follow the leaders.
 */
import * as Election from "@effect-kv/core/Election"
import * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { SeenLeader } from "../Notes.ts"
import * as locks from "./locks.ts"
import type { RecordedClient, Step } from "./Worker.ts"
import { unique } from "./Worker.ts"

/** The election of a round. */
export const electionName = (prefix: string): string => `${prefix}election/0`

/** Campaigns, proclaims, and increments the counter. */
export const lead: Step = (client, random) => {
  const proclaims = random.chance(0.5)
  const givesUpAfter = random.chance(0.1) ? random.int(1, 400) : undefined
  const work = {
    hold: random.chance(0.1) ? random.int(200, 800) : random.int(0, 10),
    increments: random.int(1, 2),
    byService: random.chance(0.5)
  }
  const leading = withLeadership(client, { ...work, proclaims }, random.int(2000, 8000))
  return givesUpAfter === undefined ? leading : Effect.timeoutOption(leading, givesUpAfter)
}

/** Increments the counter while it leads. */
export const withLeadership = Effect.fnUntraced(function*(
  client: RecordedClient,
  work: locks.Work & { readonly proclaims: boolean },
  acquireTimeout: number
) {
  const { kv, name, prefix, recorder } = client
  const value = yield* unique(client)
  return yield* recorder.withLeadership(
    name,
    electionName(prefix),
    Effect.fnUntraced(function*(leadership) {
      if (work.proclaims) yield* leadership.proclaim(yield* unique(client))
      yield* locks.incrementing(client, leadership.lock, work)
    }),
    { value, ttl: locks.ttl, acquireTimeout }
  ).pipe(Effect.provideService(Kv.Kv, kv))
})

/** Follows the leaders until it is interrupted. */
export const observing = ({ kv, prefix }: RecordedClient, seen: Array<SeenLeader>): Effect.Effect<void, KvError> =>
  Election.observe(electionName(prefix)).pipe(
    Stream.runForEach((leader) =>
      Effect.sync(() => {
        seen.push(Option.match(leader, {
          onNone: () => ({ revision: 0n, value: "" }),
          onSome: ({ revision, value }) => ({ revision, value })
        }))
      })
    ),
    Effect.provideService(Kv.Kv, kv)
  )

/** Leads for a moment with this value, for observers that wait for it. */
export const leadLast = ({ kv, prefix }: RecordedClient, value: string) =>
  Election.use(electionName(prefix), () => Effect.void, { value, ttl: locks.ttl }).pipe(
    Effect.provideService(Kv.Kv, kv)
  )
