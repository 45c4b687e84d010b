/**
 * A listing that is followed: the inventory after each change, and the times of its leases.
 */
import * as Inventory from "@effect-kv/core/Inventory"
import type * as KeyRange from "@effect-kv/core/KeyRange"
import type { Kv } from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as leaseTimes from "./leaseTimes.ts"
import type { Context, Listing } from "./listing.ts"
import { Observed } from "./times.ts"

/** What is known now. */
export interface State {
  /** `undefined` until the store has responded for the first time. */
  readonly snapshot: Inventory.Snapshot | undefined
  readonly leases: leaseTimes.LeaseTimes
  readonly observed: Observed
  /** Whether the leases of the snapshot have been requested. In an outage they cannot be. */
  readonly isComplete: boolean
}

export interface Following {
  readonly state: () => State
  /** Has something after each change. */
  readonly changed: Queue.Dequeue<void>
  /** Follows until the store rejects it. */
  readonly run: Effect.Effect<never, KvError>
}

/** The least time between two looks at the inventory, which is rebuilt for each: a busy store has many changes. */
const pause = "100 millis"

/** How often the times of leases are requested. In between they are counted down. */
const leaseInterval = "2 seconds"

/** The most leases that are requested: more do not fit a screen. */
const maxLeases = 200

export const make = Effect.fnUntraced(function*(
  listing: Listing,
  range: KeyRange.KeyRange
): Effect.fn.Return<Following, never, Kv | Scope.Scope> {
  const context = yield* Effect.context<Kv | Scope.Scope>()
  const changed = yield* Queue.sliding<void>(1)
  const observed = new Observed()
  let snapshot: Inventory.Snapshot | undefined
  let leases: leaseTimes.LeaseTimes = new Map()

  const leasesOf = (of: Inventory.Snapshot) => listing.leases(of).slice(0, maxLeases)

  const isComplete = () =>
    snapshot !== undefined && (isStale(snapshot) || leasesOf(snapshot).every((id) => leases.has(id)))

  const readLeases = Effect.fnUntraced(function*(ids: ReadonlyArray<bigint>) {
    const times = yield* leaseTimes.read(ids)
    // Times that cannot be requested now are counted down from the last known ones.
    leases = new Map([...times].map(([id, time]) => [id, time._tag === "Unknown" ? leases.get(id) ?? time : time]))
    yield* Queue.offer(changed, undefined)
  })

  const followInventory = Effect.gen(function*() {
    const view = yield* Inventory.view(range)
    yield* Stream.runForEach(
      view.changes,
      Effect.fnUntraced(function*(next) {
        snapshot = next
        observed.note(next.queues, yield* Clock.currentTimeMillis)
        yield* Queue.offer(changed, undefined)
        if (!isComplete()) yield* readLeases(leasesOf(next))
        yield* Effect.sleep(pause)
      })
    )
  })

  const followLeases = Effect.forever(Effect.gen(function*() {
    yield* Effect.sleep(leaseInterval)
    if (snapshot !== undefined && !isStale(snapshot)) yield* readLeases(leasesOf(snapshot))
  }))

  return {
    state: () => ({ snapshot, leases, observed, isComplete: isComplete() }),
    changed,
    // A view never ends without a failure.
    run: Effect.raceFirst(Effect.andThen(followInventory, Effect.never), followLeases).pipe(Effect.provide(context))
  }
})

const isStale = ({ staleSince }: Inventory.Snapshot): boolean => Option.isSome(staleSince)

/** What a listing needs beside the inventory. */
export const contextOf = ({ leases, observed }: State, now: number): Context => ({
  now,
  leases,
  since: (contender) => observed.since(contender)
})
