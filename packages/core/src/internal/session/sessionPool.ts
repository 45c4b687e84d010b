/**
 * A pool of sessions, one per time to live, shared by all the locks and temporary keys of a client. Once one of them is
 * held, acquiring another needs no lease grant.
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import type { KvBackend } from "../../backend/KvBackend.ts"
import * as LastFailure from "../../backend/LastFailure.ts"
import * as Deadline from "../../values/Deadline.ts"
import * as KvError from "../../values/KvError.ts"
import * as clientMetrics from "../metrics/client.ts"
import * as sessionSpan from "../tracing/sessionSpan.ts"
import * as spans from "../tracing/spans.ts"
import { grantSeconds } from "../values/grantSeconds.ts"
import { monotonicMillis } from "../values/monotonic.ts"
import * as clientClose from "./clientClose.ts"
import * as leaseGrant from "./leaseGrant.ts"
import * as marginLease from "./marginLease.ts"
import * as releaseWaits from "./releaseWait.ts"
import * as renewal from "./renewal.ts"
import { claims, type SharedSession, withListeners } from "./sharedSession.ts"
import * as sharedTimer from "./sharedTimer.ts"

export interface SessionPool {
  /**
   * Runs the effect on the clock of the sessions. Everything that serves a lock or a temporary key must run on it: the
   * caller's clock may be a test clock that stands still while leases expire in real time.
   */
  readonly onClock: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /**
   * A session with that time to live. The caller uses it until the scope closes.
   *
   * With a margin, in whole seconds, the store keeps the lease that much longer than the client relies on it: see
   * `marginLease.ts`.
   */
  readonly get: (
    ttl: Duration.Input,
    scope: Scope.Scope,
    margin?: number
  ) => Effect.Effect<SharedSession, KvError.KvError>
  /** The holders that are notified when the client closes, and are waited for. */
  readonly holders: clientClose.Holders
  /**
   * Forks work that several callers share, until the client closes. It inherits nothing from the caller that happens to
   * start it.
   */
  readonly forkShared: <A, E>(effect: Effect.Effect<A, E>) => Effect.Effect<Fiber.Fiber<A, E>>
  /** The metrics of the client's sessions, locks and temporary keys. */
  readonly metrics: clientMetrics.ClientMetrics
}

/**
 * How long an unused session is kept, in milliseconds. A program that acquires one lock after another should not need a
 * lease grant for each.
 */
const idleMillis = 1000

/** A session from its opening to its end, with the number of its users. */
interface PooledSession {
  /** Its time to live and its margin. */
  readonly kind: string
  readonly scope: Scope.Closeable
  readonly session: Deferred.Deferred<SharedSession, KvError.KvError>
  /** The calls that grant its lease, for callers that give up before they end. */
  readonly granting: LastFailure.LastFailure
  /** The session, once it was opened. */
  opened: SharedSession | undefined
  users: number
  idleSince: number
  /** Whether a fiber waits for its idle time to pass. */
  hasIdleTimer: boolean
}

export const make = Effect.fnUntraced(function*(
  backend: KvBackend
): Effect.fn.Return<SessionPool, never, Scope.Scope> {
  const context = yield* Effect.context<never>()
  const clock = yield* Clock.Clock
  const metrics = yield* clientMetrics.make
  const scope = yield* Scope.fork(yield* Effect.scope, "parallel")
  const keyWatchTimer = yield* Scope.provide(sharedTimer.make(Duration.millis(200)), scope)
  const releaseTimer = yield* Scope.provide(sharedTimer.make(Duration.millis(releaseWaits.maxReleaseWaitMillis)), scope)
  const releaseWait = releaseWaits.make(releaseTimer)
  // Its finalizer is added after that of the sessions' scope, so it runs before they end.
  const holders = yield* clientClose.make
  const sessions = new Map<string, PooledSession>()
  const now = () => monotonicMillis(clock)
  const onClock: SessionPool["onClock"] = (effect) =>
    Effect.clockWith((current) => current === clock ? effect : Effect.provideService(effect, Clock.Clock, clock))

  const open = Effect.fnUntraced(function*(
    kind: string,
    seconds: number,
    margin: number
  ): Effect.fn.Return<PooledSession> {
    const leases = margin === 0 ? backend : marginLease.longer(backend, margin)
    const pooled: PooledSession = {
      kind,
      scope: yield* Scope.fork(scope),
      session: Deferred.makeUnsafe(),
      granting: new LastFailure.LastFailure(),
      opened: undefined,
      users: 0,
      idleSince: 0,
      hasIdleTimer: false
    }
    sessions.set(kind, pooled)
    yield* Scope.addFinalizer(pooled.scope, Deferred.fail(pooled.session, clientClose.closed))
    const grant = LastFailure.recorded(
      leaseGrant.grant(leases, Duration.seconds(seconds), waitForRevocation),
      pooled.granting
    )
    yield* sessionSpan.around(grant).pipe(
      Effect.flatMap(({ granted, onEnd }) => renewal.keep(leases, granted, metrics, onEnd)),
      Scope.provide(pooled.scope),
      Effect.flatMap(withListeners),
      Effect.map((session): SharedSession => ({
        ...session,
        ...claims(),
        scope: pooled.scope,
        keyWatchTimer,
        releaseWait,
        finish: (effect) => finish(pooled, effect),
        retire: retire(pooled)
      })),
      Effect.onExit((exit) => opened(pooled, exit)),
      inContextOfPool(context),
      Effect.forkIn(pooled.scope, { startImmediately: true })
    )
    return pooled
  })

  /** A store that has not responded for a second is unlikely to respond now, so the wait is short. */
  const waitForRevocation: leaseGrant.WaitFor = (revocation) =>
    Effect.suspend(() =>
      leaseGrant.waitAtMost(
        revocation,
        releaseWait.isUnresponsive() ? unresponsiveWaitMillis : releaseWaits.maxReleaseWaitMillis
      )
    )

  const opened = (pooled: PooledSession, exit: Exit.Exit<SharedSession, KvError.KvError>): Effect.Effect<unknown> => {
    if (Exit.isSuccess(exit)) {
      pooled.opened = exit.value
      return Deferred.done(pooled.session, exit)
    }
    // Only closing the pool interrupts this fiber; the scope's finalizer then fails the waiters.
    return Effect.andThen(
      retire(pooled),
      Exit.hasInterrupts(exit)
        ? Effect.void
        : Deferred.complete(pooled.session, Effect.catchReason(exit, "KvError", "Indeterminate", notGranted))
    )
  }

  const isRetired = (pooled: PooledSession): boolean => sessions.get(pooled.kind) !== pooled

  const retire = (pooled: PooledSession): Effect.Effect<void> =>
    Effect.sync(() => {
      if (!isRetired(pooled)) sessions.delete(pooled.kind)
    })

  const finish = (pooled: PooledSession, effect: Effect.Effect<unknown>): Effect.Effect<Fiber.Fiber<unknown>> =>
    Effect.suspend(() => {
      pooled.users++
      const finished = Effect.onExitPrimitive(effect, () => leave(pooled))
      return Effect.forkIn(onClock(finished), pooled.scope, { startImmediately: true })
    })

  /** Counts a user less. Returns what else is to be done, if anything. */
  const leave = (pooled: PooledSession): Effect.Effect<void> | undefined => {
    if (--pooled.users > 0) return undefined
    // In the background: the caller need not wait for the revocation, nor for a backend that is slow to stop.
    if (isRetired(pooled)) return inBackground(Scope.close(pooled.scope, Exit.void))
    pooled.idleSince = now()
    if (pooled.hasIdleTimer) return undefined
    pooled.hasIdleTimer = true
    // Started at once: if the next user came first, each use of the session would start a timer.
    return inBackground(endWhenIdle(pooled), { startImmediately: true })
  }

  const inBackground = (
    effect: Effect.Effect<void>,
    options?: { readonly startImmediately: boolean }
  ): Effect.Effect<void> => effect.pipe(inContextOfPool(context), Effect.forkIn(scope, options), Effect.asVoid)

  const endWhenIdle = (pooled: PooledSession): Effect.Effect<void> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.gen(function*() {
        while (pooled.users === 0) {
          const remaining = isRetired(pooled) ? 0 : pooled.idleSince + idleMillis - now()
          if (remaining <= 0) {
            yield* retire(pooled)
            return yield* Scope.close(pooled.scope, Exit.void)
          }
          // Whole milliseconds: a clock may not distinguish a fraction from 0, and the loop would spin.
          yield* restore(Effect.sleep(Math.ceil(remaining)))
        }
        pooled.hasIdleTimer = false
      })
    )

  /** Counts a user of the session until the returned effect runs. */
  const use = (pooled: PooledSession): Effect.Effect<void> => {
    pooled.users++
    let hasLeft = false
    return Effect.suspend(() => {
      if (hasLeft) return Effect.void
      hasLeft = true
      return leave(pooled) ?? Effect.void
    })
  }

  const join = (
    seconds: number,
    margin: number,
    user: Scope.Scope
  ): Effect.Effect<SharedSession, KvError.KvError> =>
    Effect.uninterruptibleMask((restore) => {
      const kind = `${seconds} + ${margin}`
      const pooled = sessions.get(kind)
      // The usual case, in as few steps as possible: each acquisition of a lock begins with it.
      if (pooled?.opened?.isAliveUnsafe() === true && scope.state._tag !== "Closed" && !holders.isClosing()) {
        return Effect.as(Scope.addFinalizer(user, use(pooled)), pooled.opened)
      }
      return Effect.gen(function*() {
        while (scope.state._tag !== "Closed" && !holders.isClosing()) {
          const pooled = sessions.get(kind) ?? (yield* open(kind, seconds, margin))
          const leaveNow = use(pooled)
          yield* Scope.addFinalizer(user, leaveNow)
          const session = yield* restore(withinDeadline(pooled))
          if (session.isAliveUnsafe()) return session
          // The session was lost. Its other users keep it until they leave; this caller opens another.
          yield* retire(pooled)
          yield* leaveNow
        }
        return yield* clientClose.closed
      })
    })

  return {
    onClock,
    get: (ttl, user, margin = 0) => {
      const seconds = grantSeconds({ ttl })
      return Exit.isSuccess(seconds) ? join(seconds.value, margin, user) : Effect.failCause(seconds.cause)
    },
    holders,
    forkShared: (effect) => Effect.forkIn(inContextOfPool(spans.contextWithout(context))(effect), scope),
    metrics
  }
})

/** How long to wait for a revocation, in milliseconds, when the store has not responded for a second. */
const unresponsiveWaitMillis = 200

/** All waiters share the grant. Each of them waits no longer than its own deadline. */
const withinDeadline = ({ granting, session }: PooledSession): Effect.Effect<SharedSession, KvError.KvError> =>
  Deferred.isDoneUnsafe(session) ? Deferred.await(session) : Effect.flatMap(Deadline.Deadline, (deadline) => {
    const granted = LastFailure.during(Deferred.await(session), granting)
    return deadline === undefined ? granted : Effect.timeoutOrElse(granted, {
      duration: deadline,
      orElse: () => KvError.fail(notGrantedWithin(deadline, granting.lastFailure))
    })
  })

const notGrantedWithin = (deadline: Duration.Duration, why: KvError.Reason | undefined): KvError.Reason =>
  new KvError.Unavailable({
    message: `no lease was granted within ${Duration.format(deadline)}${why === undefined ? "" : `: ${why.message}`}`
  })

/** Nothing was written under the lease, and it is revoked, so the waiters get a failure that they can retry. */
const notGranted = (reason: KvError.Indeterminate): Effect.Effect<never, KvError.KvError> =>
  KvError.fail(new KvError.Unavailable({ message: `no lease was granted: ${reason.message}` }))

/** Shared work must not inherit the context (deadline, span, services) of the caller that happened to start it. */
const inContextOfPool = (context: Context.Context<never>) => <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.updateContext(effect, (_: Context.Context<never>) => context)
