/**
 * Work under what several clients may hold at once: the permits of a semaphore, and a read-write lock.
 */
import * as DistSemaphore from "@effect-kv/core/DistSemaphore"
import * as Kv from "@effect-kv/core/Kv"
import type { Recorder } from "@effect-kv/test-suite/verification"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as locks from "./locks.ts"
import type { RecordedClient, Step } from "./Worker.ts"
import { unique } from "./Worker.ts"

/** The semaphore of a round. */
export const semaphoreName = (prefix: string): string => `${prefix}semaphore/0`

/** How many permits it has. */
export const permits = 3

/** The read-write lock of a round. */
export const rwLockName = (prefix: string): string => `${prefix}rw-lock/0`

/**
 * The key that holders of permits and readers write. Its value is the token, the count that a reader has seen, and a
 * unique part.
 */
export const logOf = (name: string): string => `${name}-log`

/** The token in a log's value. */
export const tokenOf = (value: string): bigint => BigInt(value.split(" ")[0]!)

/** The count in a log's value. */
export const countOf = (value: string): number => Number(value.split(" ")[1])

const log = Effect.fnUntraced(function*(client: RecordedClient, held: Recorder.Held, count: number) {
  const kv = yield* Kv.Kv
  const value = `${held.token} ${count} ${yield* unique(client)}`
  yield* kv.put(logOf(held.name), value).pipe(client.recorder.fenced(client.name, held, logOf(held.name)))
})

/** Writes while it holds some of the permits. */
export const usePermits: Step = (client, random) => {
  const weight = random.int(1, permits)
  const hold = random.chance(0.1) ? random.int(200, 800) : random.int(0, 20)
  const acquireTimeout = random.int(2000, 8000)
  const givesUpAfter = random.chance(0.1) ? random.int(1, 400) : undefined
  const working = withPermits(client, weight, Effect.sleep(hold), acquireTimeout)
  return givesUpAfter === undefined ? working : Effect.timeoutOption(working, givesUpAfter)
}

/** Acquires permits, runs an effect, and writes. */
export const withPermits = Effect.fnUntraced(
  function*(
    client: RecordedClient,
    weight: number,
    meanwhile: Effect.Effect<void>,
    acquireTimeout: number
  ) {
    const semaphore = yield* DistSemaphore.make(semaphoreName(client.prefix), { permits })
    yield* client.recorder.withPermits(
      client.name,
      semaphore,
      weight,
      (held) => Effect.andThen(meanwhile, log(client, held, 0)),
      { ttl: locks.ttl, acquireTimeout, description: client.name }
    )
  },
  (effect, client) => Effect.provideService(effect, Kv.Kv, client.kv)
)

/** Increments the counter of the read-write lock as a writer, or writes as a reader which count it has seen. */
export const readOrWrite: Step = (client, random) => {
  const isWriter = random.chance(0.3)
  const hold = random.chance(0.1) ? random.int(200, 800) : random.int(0, 20)
  const acquireTimeout = random.int(2000, 8000)
  const work = { hold, increments: 1, byService: random.chance(0.5) }
  const givesUpAfter = random.chance(0.1) ? random.int(1, 400) : undefined
  const working = isWriter
    ? withWriteLock(client, work, acquireTimeout)
    : withReadLock(client, Effect.sleep(hold), acquireTimeout)
  return givesUpAfter === undefined ? working : Effect.timeoutOption(working, givesUpAfter)
}

/** Increments the counter while it holds the lock for writing. */
export const withWriteLock = (client: RecordedClient, work: locks.Work, acquireTimeout: number) =>
  client.recorder.withRwLocks(
    client.name,
    { write: [rwLockName(client.prefix)] },
    ({ parts: [held] }) => locks.incrementing(client, held, work),
    { ttl: locks.ttl, acquireTimeout }
  ).pipe(Effect.provideService(Kv.Kv, client.kv))

/** Reads the counter, runs an effect, and writes the count while it still holds the lock for reading. */
export const withReadLock = (client: RecordedClient, meanwhile: Effect.Effect<void>, acquireTimeout: number) =>
  client.recorder.withRwLocks(
    client.name,
    { read: [rwLockName(client.prefix)] },
    Effect.fnUntraced(function*({ parts: [held] }) {
      const kv = yield* Kv.Kv
      const count = Option.match(yield* kv.get(locks.counterOf(held.name)), { onNone: () => 0, onSome: locks.countOf })
      yield* meanwhile
      yield* log(client, held, count)
    }),
    { ttl: locks.ttl, acquireTimeout }
  ).pipe(Effect.provideService(Kv.Kv, client.kv))
