/**
 * A pool of leases for keys that expire. Keys with similar times to live share a lease, because a grant costs a write.
 *
 * A time to live is rounded up to its class: whole seconds up to 16, then eight classes for each doubling. The lease of a
 * class is used for a slice of an eighth of the class, at least two seconds. It lives that much longer than the class,
 * so that a key put at the end of the slice still lives long enough. No key stays for more than a quarter, or three
 * seconds, longer than it was meant to.
 *
 * A lease is used for at most 1,000 keys, because the store deletes the keys of a lease in one step.
 *
 * Leases are neither renewed nor revoked: their keys must outlive the process that put them.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import type { Kv } from "@effect-kv/core/Kv"
import * as KvModule from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import * as Lease from "@effect-kv/core/Lease"
import * as Cache from "effect/Cache"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"

export interface LeasePool {
  /** The id of a lease for one key, which lives for at least that many milliseconds from now. */
  readonly lease: (ttlMillis: number) => Effect.Effect<bigint, KvError.KvError>
  /**
   * Runs a write that puts keys with leases of the pool. If one of them has ended early, because an operator revoked it or
   * the store was restored, the write was not applied. It runs again, with other leases.
   */
  readonly write: <A>(write: Effect.Effect<A, KvError.KvError>) => Effect.Effect<A, KvError.KvError>
}

/** How many classes a client can use at once. */
const capacity = 128

const minSliceSeconds = 2

const maxKeys = 1000

/** How often a lease is requested if the store takes longer than a slice to grant one. */
const maxGrants = 3

/** A time to live in seconds, rounded up to its class. */
export const classOf = (ttlMillis: number): number => {
  const seconds = Math.max(1, Math.ceil(ttlMillis / 1000))
  const step = Math.max(1, 2 ** (Math.floor(Math.log2(seconds)) - 3))
  return Math.ceil(seconds / step) * step
}

/** For how long a lease of the class is attached to further keys, in seconds. */
export const sliceOf = (seconds: number): number => Math.max(minSliceSeconds, Math.floor(seconds / 8))

interface Granted {
  readonly id: bigint
  /** When the grant was sent, by both clocks: either may stand still or jump. */
  readonly monotonicMillis: number
  readonly wallMillis: number
  /** How many keys can still be attached to it. */
  keysLeft: number
}

const monotonicMillis = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000

const isUsable = (granted: Granted, seconds: number, clock: Clock.Clock): boolean => {
  const sliceMillis = sliceOf(seconds) * 1000
  const wall = clock.currentTimeMillisUnsafe() - granted.wallMillis
  return granted.keysLeft > 0 && monotonicMillis(clock) - granted.monotonicMillis < sliceMillis &&
    wall >= 0 && wall < sliceMillis
}

export const make = (kv: Kv): Effect.Effect<LeasePool> =>
  Effect.gen(function*() {
    // Shared by all callers that wait for it, so it must not inherit the deadline of the one that started it.
    const grant = (seconds: number): Effect.Effect<Granted, KvError.KvError> =>
      Effect.gen(function*() {
        const clock = yield* Clock.Clock
        const sent = { monotonicMillis: monotonicMillis(clock), wallMillis: clock.currentTimeMillisUnsafe() }
        const ttl = Duration.seconds(Math.min(seconds + sliceOf(seconds), Lease.maxTtlSeconds))
        const { id } = yield* Lease.grant({ ttl })
        return { id, keysLeft: maxKeys, ...sent }
      }).pipe(
        Effect.provideService(KvModule.Kv, kv),
        Effect.provideService(Deadline.Deadline, undefined)
      )

    const leases = yield* Cache.makeWith(grant, {
      capacity,
      timeToLive: (exit) => Exit.isSuccess(exit) ? Duration.infinity : Duration.zero
    })

    const lease = Effect.fnUntraced(function*(ttlMillis: number): Effect.fn.Return<bigint, KvError.KvError> {
      const seconds = classOf(ttlMillis)
      const clock = yield* Clock.Clock
      for (let grants = 0; grants <= maxGrants; grants++) {
        const granted = yield* Cache.get(leases, seconds)
        if (isUsable(granted, seconds, clock)) {
          granted.keysLeft--
          return granted.id
        }
        yield* Cache.invalidateWhen(leases, seconds, (current) => current === granted)
      }
      return yield* KvError.fail(
        new KvError.DeadlineExceeded({
          message: `not applied: the store took longer than ${
            sliceOf(seconds)
          } seconds to grant a lease, ${maxGrants} times`
        })
      )
    })

    return {
      lease,
      write: (write) =>
        write.pipe(
          Effect.tapError((error) => hasEnded(error) ? Cache.invalidateAll(leases) : Effect.void),
          Effect.retry({ times: 2, while: hasEnded })
        )
    }
  })

const hasEnded = (error: KvError.KvError): boolean => error.reason._tag === "LeaseNotFound"
