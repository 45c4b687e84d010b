/**
 * Faults of the clients themselves.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { Fault } from "../Fault.ts"
import type { Testbed } from "../Testbed.ts"

/** Blocks the event loop of all clients, as a long computation or a suspended virtual machine does. */
export const stall = ({ millis }: Fault): Effect.Effect<void> =>
  Effect.sync(() => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, millis))

class LockNotHeld extends Data.TaggedError("LockNotHeld")<{ readonly message: string }> {}

/**
 * Revokes the leases of the holders of locks several times. Every other time the holder's links are down meanwhile: it
 * cannot notice, and its writes arrive after other clients have had the lock.
 */
export const evict = Effect.fnUntraced(function*(testbed: Testbed, names: ReadonlyArray<string>) {
  for (let i = 0; i < 6; i++) {
    const lock = names[Math.floor(i / 2) % names.length]!
    // The lock may be free at this moment, or its holder may have released it in between.
    const attempt = i % 2 === 0 ? evictOnce(testbed, lock) : evictUnheard(testbed, lock)
    yield* Effect.retry(attempt, { schedule: Schedule.spaced("50 millis"), times: 100 })
  }
})

const evictOnce = Effect.fnUntraced(function*(testbed: Testbed, lock: string) {
  const { lease } = yield* holderOf(testbed, lock)
  yield* revoke(testbed, lease)
})

const revoke = (testbed: Testbed, lease: bigint) =>
  Effect.suspend(() => {
    testbed.evicted.add(lease)
    return testbed.store.revoke(lease)
  })

/** A holder that is found twice holds the lock for long, so it is about to write. */
const evictUnheard = Effect.fnUntraced(function*(testbed: Testbed, lock: string) {
  const before = yield* holderOf(testbed, lock)
  const { lease, place, token } = yield* holderOf(testbed, lock)
  if (token !== before.token) return yield* new LockNotHeld({ message: `no client holds ${lock} for long` })
  const links = testbed.links[place]!
  yield* Effect.acquireUseRelease(
    Effect.forEach(links, (link) => link.blackhole()),
    () => Effect.andThen(revoke(testbed, lease), Effect.sleep("400 millis")),
    () => Effect.forEach(links, (link) => link.heal)
  )
})

/** The token and lease of a lock's holder, and the index of its client, by the client's name in the key's value. */
const holderOf = Effect.fnUntraced(function*(testbed: Testbed, lock: string) {
  const oldest = yield* testbed.store.oldest(`${lock}/`)
  const [, name] = /^c(\d+)$/.exec(oldest?.value ?? "") ?? []
  if (oldest === undefined || name === undefined) {
    return yield* new LockNotHeld({ message: `no client holds ${lock}` })
  }
  return { token: oldest.createRevision, lease: oldest.lease, place: Number(name) - 1 }
})
