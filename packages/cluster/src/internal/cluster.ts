/**
 * A cluster as its storage sees it: the store, the keys, the times, and what every call to the store has in common.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import type * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import * as KvInternals from "@effect-kv/core/KvInternals"
import * as LastFailure from "@effect-kv/core/LastFailure"
import * as Clock from "effect/Clock"
import { PersistenceError } from "effect/cluster/ClusterError"
import type * as ShardingConfig from "effect/cluster/ShardingConfig"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as keys from "./keys.ts"

export interface Cluster {
  readonly kv: Kv.Kv
  /** Without fences: locks must be released, and runners registered, whichever fiber does it. */
  readonly store: KvBackend
  readonly keys: keys.Keys
  /** The time to live of both leases of a runner: `shardLockExpiration`. */
  readonly ttl: Duration.Duration
  /** How often `Sharding` refreshes its locks. No operation takes longer. */
  readonly interval: Duration.Duration
  /** How often `Sharding` reads the registered runners. */
  readonly assignmentsInterval: Duration.Duration
  /** The keys of registrations that were there a moment ago. */
  readonly leaving: Set<string>
  /** Milliseconds of the monotonic clock. */
  readonly now: () => number
}

export const make = Effect.fnUntraced(function*(
  kv: Kv.Kv,
  config: ShardingConfig.ShardingConfig["Service"],
  prefix: string | undefined
): Effect.fn.Return<Cluster, KvError.KvError> {
  const clock = yield* Clock.Clock
  const ttl = yield* positive("shardLockExpiration", config.shardLockExpiration)
  const refreshed = yield* positive("shardLockRefreshInterval", config.shardLockRefreshInterval)
  return {
    kv,
    store: KvInternals.unfencedOf(kv),
    keys: yield* keys.make(prefix),
    ttl,
    // The interval of `Sharding` itself, whatever is configured.
    interval: Duration.min(refreshed, Duration.divideUnsafe(ttl, 3)),
    leaving: new Set(),
    assignmentsInterval: Duration.fromInputUnsafe(config.refreshAssignmentsInterval),
    now: () => Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000
  }
})

const positive = (name: string, input: Duration.Input): Effect.Effect<Duration.Duration, KvError.KvError> => {
  const duration = Duration.fromInputUnsafe(input)
  return Duration.isFinite(duration) && Duration.isGreaterThan(duration, Duration.zero)
    ? Effect.succeed(duration)
    : KvError.fail(
      new KvError.InvalidRequest({
        message: `${name} must be a finite time of more than 0, not ${Duration.format(duration)}`
      })
    )
}

/**
 * An operation of the storage: it ends within the refresh interval, is not traced, and fails as `Sharding` expects.
 *
 * All its writes can be repeated, so an unknown outcome and a transient failure are followed by another attempt while
 * there is time.
 */
export const operation = <A, E, R>(
  { interval }: Cluster,
  name: string,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, PersistenceError, R> =>
  Effect.suspend(() => {
    let last: E | undefined
    const repeated = effect.pipe(
      Effect.tapError((error) =>
        Effect.sync(() => {
          last = error
        })
      ),
      Effect.retry({ while: mayBeRepeated, schedule: Schedule.spaced("50 millis") }),
      // A little less than the whole: the failure of the call says more than that of the operation.
      Deadline.within(Duration.times(interval, 0.9))
    )
    return LastFailure.timeoutOrElse(repeated, {
      duration: interval,
      orElse: (why): Effect.Effect<never, E | KvError.KvError> =>
        last === undefined ? KvError.fail(tooLate(name, interval, why)) : Effect.fail(last)
    }).pipe(
      Effect.withTracerEnabled(false),
      PersistenceError.refail
    )
  })

const tooLate = (name: string, interval: Duration.Duration, why: KvError.Reason | undefined): KvError.Reason =>
  new KvError.DeadlineExceeded({
    message: `${name} did not end within ${Duration.format(interval)}${why === undefined ? "" : `: ${why.message}`}`
  })

const mayBeRepeated = (error: unknown): boolean =>
  KvError.isKvError(error) && (error.isRetryable || error.reason._tag === "Indeterminate")
