/**
 * Work with leases and temporary keys.
 */
import * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as TempKey from "@effect-kv/core/TempKey"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type { RecordedClient, Step } from "./Worker.ts"
import { unique } from "./Worker.ts"

/** A lease with an attached key, from its grant to its revocation or expiry. */
export const lease: Step = Effect.fnUntraced(function*(client, random) {
  const { kv, prefix } = client
  const expires = random.chance(0.15)
  const renewals = random.int(0, 2)
  const pause = random.int(0, 300)
  const key = `${prefix}leased/${random.int(0, 5)}`
  const backend = backendOf(kv)
  const { id } = yield* backend.leaseGrant({ ttl: "2 seconds" })
  // If revoking fails, the lease expires.
  return yield* Effect.gen(function*() {
    yield* kv.put(key, yield* unique(client), { lease: id })
    for (let i = 0; i < renewals; i++) {
      yield* Effect.sleep(pause)
      yield* backend.leaseKeepAlive(id)
    }
    yield* backend.leaseTimeToLive(id, { keys: true })
    yield* kv.get(key)
    yield* expires ? Effect.sleep("2500 millis") : backend.leaseRevoke(id)
  })
})

/** A temporary key that a client keeps for the whole round. */
export const residentKey = (prefix: string, name: string): string => `${prefix}temporary/resident/${name}`

export const isResidentKey = (key: string): boolean => key.includes("temporary/resident/")

/** Keeps a temporary key until it is interrupted. */
export const resident = (client: RecordedClient): Effect.Effect<never, KvError> =>
  Effect.scoped(Effect.gen(function*() {
    const value = yield* unique(client)
    yield* Effect.provideService(
      TempKey.make(residentKey(client.prefix, client.name), { value, ttl: "2 seconds", onTaken: "wait" }),
      Kv.Kv,
      client.kv
    )
      .pipe(
        Effect.catchTag("TempKeyTaken", Effect.die)
      )
    return yield* Effect.never
  }))

/**
 * A short-lived temporary key, under a name of the worker's own or a shared one. Its own must be gone when the scope
 * has closed.
 */
export const temporaryKey: Step = Effect.fnUntraced(function*(client, random) {
  const { kv, name, prefix } = client
  const place = random.int(0, 3)
  const isOwn = random.chance(0.5)
  const key = isOwn ? `${prefix}temporary/of/${name}` : `${prefix}temporary/${place}`
  const lives = random.int(20, 1500)
  const value = yield* unique(client)
  yield* Effect.scoped(Effect.gen(function*() {
    yield* Effect.provideService(TempKey.make(key, { value, ttl: "2 seconds" }), Kv.Kv, kv)
    yield* kv.get(key)
    yield* Effect.sleep(lives)
  })).pipe(Effect.catchTag("TempKeyTaken", () => Effect.void))
  if (isOwn) yield* untilGone(client, key)
})

/** How long the deletion may take, because the store may be unreachable for a moment. */
const goesWithin = { schedule: Schedule.spaced("200 millis"), times: 50 }

const untilGone = ({ kv }: RecordedClient, key: string) =>
  Effect.flatMap(
    kv.get(key),
    (value) =>
      Option.isNone(value)
        ? Effect.void
        : new KeyStays({ message: `the temporary key ${key} is still there after its scope closed` })
  ).pipe(
    Effect.retry({ ...goesWithin, while: (error) => error instanceof KeyStays }),
    Effect.catchTag("KeyStays", Effect.die)
  )

class KeyStays extends Data.TaggedError("KeyStays")<{ readonly message: string }> {}
