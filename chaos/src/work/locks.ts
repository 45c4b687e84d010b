/**
 * Work under locks: counters that only the lock's holder increments, fenced. Half of the writes are made by a service
 * that captured its `Kv` before the lock was acquired.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as Kv from "@effect-kv/core/Kv"
import type { Recorder } from "@effect-kv/test-suite/verification"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { RecordedClient, Step } from "./Worker.ts"
import { unique } from "./Worker.ts"

/** The locks of a round. */
export const lockNames = (prefix: string): NonEmptyReadonlyArray<string> => [`${prefix}lock/0`, `${prefix}lock/1`]

/**
 * The counter that a lock protects. Its value is the count, the token of the lock it was written under, and a unique
 * part.
 */
export const counterOf = (lock: string): string => `${lock}-counter`

/** The count in a counter's value. */
export const countOf = (value: string): number => Number(value.split(" ")[0])

/** The token in a counter's value. */
export const tokenOf = (value: string): bigint => BigInt(value.split(" ")[1]!)

/** The time to live of all sessions of a round, so that its locks share them. */
export const ttl = "2 seconds"

/** How much longer than allowed a lock may be held, because two timers are compared, in milliseconds. */
const timerTolerance = 50

/** Increments the counter of one lock, or of two that are acquired together. */
export const increment: Step = (client, random) => {
  const names = lockNames(client.prefix)
  const choice = random.next()
  const maxHold = choice >= 0.2 && choice < 0.3 ? random.int(1, 50) : undefined
  const hold = maxHold !== undefined
    ? random.int(0, 200)
    : random.chance(0.08)
    ? random.int(200, 800)
    : random.int(0, 10)
  const acquireTimeout = random.int(2000, 8000)
  const single = random.pick(names)
  const increments = random.int(1, 2)
  const options = { ttl, description: client.name } as const
  const byService = random.chance(0.5)
  const body = (lock: DistLock.LockPart) => incrementing(client, lock, { hold, increments, byService })
  if (choice < 0.1) {
    return client.recorder.withLock(client.name, names, ({ parts }) => body(parts[parts.length - 1]!), {
      ...options,
      acquireTimeout
    }).pipe(onKv(client))
  }
  if (choice < 0.2) return trying(client, single, byService, body).pipe(onKv(client))
  const locked = client.recorder.withLock(client.name, single, body, { ...options, acquireTimeout, maxHold }).pipe(
    onKv(client),
    Effect.tap(() =>
      maxHold !== undefined && hold > maxHold + timerTolerance
        ? Effect.die(new Error(`the lock was held for more than ${hold} ms, and ${maxHold} were allowed`))
        : Effect.void
    )
  )
  // Some callers interrupt the attempt.
  return maxHold === undefined && choice < 0.4 ? Effect.timeoutOption(locked, random.int(1, 400)) : locked
}

const onKv = (client: RecordedClient) => Effect.provideService(Kv.Kv, client.kv)

/** What a holder does. */
export interface Work {
  /** How long it works between its read and its write, in milliseconds. */
  readonly hold: number
  readonly increments: number
  /** Whether a service writes, which captured its `Kv` before. */
  readonly byService: boolean
}

/** Increments the counter of what is held, under its fence. */
export const incrementing = Effect.fnUntraced(function*(client: RecordedClient, lock: Recorder.Held, options: Work) {
  const kv = yield* Kv.Kv
  const save: typeof client.counters.save = options.byService
    ? client.counters.save
    : (counter, value) => kv.put(counter, value)
  const counter = counterOf(lock.name)
  for (let i = 0; i < options.increments; i++) {
    const count = Option.match(yield* kv.get(counter), { onNone: () => 0, onSome: countOf })
    yield* Effect.sleep(options.hold)
    const value = `${count + 1} ${lock.token} ${yield* unique(client)}`
    yield* save(counter, value).pipe(client.recorder.fenced(client.name, lock, counter))
  }
})

/** Runs only if the lock is free. Nothing interrupts the work when the lock is lost, except a rejected write. */
const trying = (
  client: RecordedClient,
  name: string,
  byService: boolean,
  body: (lock: DistLock.Lock) => Effect.Effect<void, DistLock.LockFailure, Kv.Kv>
) =>
  Effect.scoped(Effect.gen(function*() {
    const lock = yield* DistLock.tryAcquire(name, { ttl, description: client.name })
    if (Option.isNone(lock)) return
    const holding = yield* client.recorder.acquired(client.name, lock.value)
    // Fenced by the fiber's fence or by a fenced `Kv`.
    const fenced = byService
      ? DistLock.fenced(body(lock.value), lock.value)
      : Effect.provideService(body(lock.value), Kv.Kv, DistLock.fence(client.kv, lock.value))
    yield* Effect.raceFirst(fenced, lock.value.lost).pipe(
      Effect.ensuring(Effect.flatMap(lock.value.isHeld, (held) => held ? holding.released : holding.lost))
    )
  }))
