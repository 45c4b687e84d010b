/**
 * A lease that is kept alive for as long as a scope is open: what temporary keys and locks stand on.
 *
 * A session is lost when the store says so, or when the time it was last granted has passed by this machine's clocks,
 * whichever comes first: its owner must know before the store gives its keys away. A lost session never comes back.
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Deadline from "./Deadline.ts"
import * as currentFences from "./internal/currentFences.ts"
import * as expiry from "./internal/expiry.ts"
import type { KvBackend } from "./KvBackend.ts"
import * as KvError from "./KvError.ts"

/** A lease and its upkeep. */
export interface Session {
  /** The lease's id. */
  readonly lease: bigint
  /** The time to live the store granted. */
  readonly ttl: Duration.Duration
  /** Whether the lease is known to live, by the clocks as they stand at this moment. */
  readonly isAlive: Effect.Effect<boolean>
  /** The same as a plain function. */
  readonly isAliveUnsafe: () => boolean
  /** Waits until the session is lost or its scope is closed, and tells how. */
  readonly lost: Effect.Effect<string>
  /** Asks the store now, instead of at the next renewal, whether the lease lives. Does not wait for the answer. */
  readonly verify: Effect.Effect<void>
}

/** Options of a session. */
export interface Options {
  /** Time to live of the lease. Renewed at a third of what the store grants. Default: 10 seconds. */
  readonly ttl?: Duration.Input | undefined
}

/** The time to live of a session that does not say: 10 seconds. */
export const defaultTtl: Duration.Duration = Duration.seconds(10)

/**
 * Grants a lease and keeps it alive until the scope closes; then revokes it, within 3 seconds or not at all (it then ends
 * with its time to live).
 */
export const make = Effect.fnUntraced(function*(
  backend: KvBackend,
  options?: Options
): Effect.fn.Return<Session, KvError.KvError, Scope.Scope> {
  const clock = yield* Clock.Clock
  const { granted, lease, ttl } = yield* grant(backend, clock, options?.ttl ?? defaultTtl)
  const third = Duration.toMillis(ttl) / 3
  let expires = granted
  const lost = yield* Deferred.make<string>()
  let wake = yield* Deferred.make<void>()

  const remaining = () => expiry.remainingMillis(clock, expires)
  const lose = (how: string) => Deferred.succeed(lost, how)

  /** An answer that comes after the deadline is too late: the session was lost when the deadline passed. */
  const renewed = (sent: expiry.Instant, ttl: Duration.Duration) =>
    Effect.suspend(() => {
      if (remaining() <= 0) return lose(outOfTime)
      expires = expiry.after(sent, ttl)
      return Effect.void
    })

  const notRenewed = (error: KvError.KvError) => {
    switch (error.reason._tag) {
      case "LeaseNotFound":
        return lose("the store has ended its lease")
      case "Closed":
        return lose("the client was closed")
      default:
        // Whatever it was, it is tried again until the deadline.
        return Effect.sleep(Duration.millis(Math.min(third / 10, 500)))
    }
  }

  const renew: Effect.Effect<unknown> = Effect.suspend(() => {
    if (remaining() <= 0) return lose(outOfTime)
    const sent = expiry.now(clock)
    return backend.leaseKeepAlive(lease).pipe(
      Deadline.within(Duration.millis(Math.max(1, Math.min(remaining(), third)))),
      Effect.matchEffect({ onSuccess: (lease) => renewed(sent, lease.ttl), onFailure: notRenewed })
    )
  })

  const untilRenewalIsDue = Effect.gen(function*() {
    const sinceRenewal = Duration.toMillis(ttl) - remaining()
    if (sinceRenewal >= third) return
    const woken = yield* Effect.timeoutOption(Deferred.await(wake), Duration.millis(third - sinceRenewal))
    if (Option.isSome(woken)) wake = yield* Deferred.make<void>()
  })

  const keepAlive = Effect.forever(Effect.andThen(untilRenewalIsDue, renew))

  // Sleeps in steps, so that a wall clock that jumps is noticed although the monotonic clock, by which sleeps are
  // measured, does not; and a monotonic clock that stood still, as it may while a machine sleeps, likewise.
  const watchDeadline = Effect.gen(function*() {
    while (remaining() > 0) {
      yield* Effect.sleep(Duration.millis(Math.min(remaining(), longestStep)))
    }
    yield* lose(outOfTime)
  })

  yield* Effect.forkScoped(Effect.raceFirst(Effect.raceFirst(keepAlive, watchDeadline), Deferred.await(lost)))
  yield* Effect.addFinalizer(() => lose("it was closed"))

  const isAliveUnsafe = () => {
    if (Deferred.isDoneUnsafe(lost)) return false
    if (remaining() > 0) return true
    // What is found lost stays so, though a clock be set back.
    Deferred.doneUnsafe(lost, Effect.succeed(outOfTime))
    return false
  }

  return {
    lease,
    ttl,
    isAlive: Effect.sync(isAliveUnsafe),
    isAliveUnsafe,
    lost: Deferred.await(lost),
    verify: Effect.suspend(() => Deferred.succeed(wake, undefined))
  }
})

const outOfTime = "its lease could not be renewed in time"

const longestStep = 500

/** Grants a lease under an id of our own choosing, so that it can be revoked though the answer never came. */
const grant = Effect.fnUntraced(function*(backend: KvBackend, clock: Clock.Clock, ttl: Duration.Input) {
  while (true) {
    const id = yield* randomLeaseId
    let maybeGranted = true
    yield* Effect.addFinalizer(() => maybeGranted ? revoke(backend, id) : Effect.void)
    const sent = expiry.now(clock)
    const result = yield* Effect.result(backend.leaseGrant({ ttl, id }))
    if (result._tag === "Success") {
      return { lease: id, ttl: result.success.ttl, granted: expiry.after(sent, result.success.ttl) }
    }
    maybeGranted = result.failure.outcome === "Unknown"
    if (result.failure.reason._tag !== "LeaseExists") return yield* result.failure
  }
})

/**
 * A random positive 63-bit number. Not from Effect's `Random`, which may be seeded: two processes with one seed would
 * choose the same lease, and one could revoke the other's.
 */
const randomLeaseId = Effect.sync(() => {
  // oxlint-disable-next-line no-restricted-globals -- must not be seeded, see above
  const [high, low] = crypto.getRandomValues(new Uint32Array(2))
  return (BigInt(high! >>> 1) << 32n | BigInt(low!)) || 1n
})

const revoke = (backend: KvBackend, lease: bigint): Effect.Effect<void> =>
  // It ends what stands on the session, which is to happen also when a lock was lost under which the session was made.
  currentFences.unfenced(backend.leaseRevoke(lease)).pipe(
    Deadline.within("3 seconds"),
    Effect.timeoutOrElse({
      duration: "3 seconds",
      orElse: () => KvError.fail(new KvError.DeadlineExceeded({ message: "the lease was not revoked in 3 seconds" }))
    }),
    Effect.catchReason("KvError", "LeaseNotFound", () => Effect.void),
    Effect.catch((error) =>
      Effect.logDebug(`effect-kv: a lease was left to expire, because it could not be revoked`, error.message)
    )
  )
