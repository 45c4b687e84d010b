/**
 * One session per time to live, shared by all the locks and temporary keys of a client: taking one costs no lease round
 * trip once the first is held.
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
import * as Deadline from "../../values/Deadline.ts"
import * as KvError from "../../values/KvError.ts"
import { grantSeconds } from "../values/grantSeconds.ts"
import { monotonicMillis } from "../values/monotonic.ts"
import * as clientClose from "./clientClose.ts"
import * as leaseGrant from "./leaseGrant.ts"
import * as patience from "./patience.ts"
import * as renewal from "./renewal.ts"
import { claims, type SharedSession, withListeners } from "./sharedSession.ts"
import * as sharedTimer from "./sharedTimer.ts"

export interface SessionPool {
  /**
   * Runs the effect on the clock that the sessions live by. All that serves a lock or a temporary key must be on it: with a
   * store that keeps real time, timers on the caller's clock may stand still in a test.
   */
  readonly onClock: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** The session of that time to live, until the scope closes. */
  readonly get: (ttl: Duration.Input, scope: Scope.Scope) => Effect.Effect<SharedSession, KvError.KvError>
  /** Those who are told when the client closes, and are waited for. */
  readonly holders: clientClose.Holders
}

/**
 * How long a session that nobody uses is kept, in milliseconds: a program that takes one lock after another should not pay
 * for a lease each time.
 */
const idleMillis = 1000

/** A session from its opening to its end, and how many use it. */
interface Slot {
  readonly seconds: number
  readonly scope: Scope.Closeable
  readonly session: Deferred.Deferred<SharedSession, KvError.KvError>
  users: number
  idleSince: number
  isWatched: boolean
}

export const make = Effect.fnUntraced(function*(
  backend: KvBackend
): Effect.fn.Return<SessionPool, never, Scope.Scope> {
  const context = yield* Effect.context<never>()
  const clock = yield* Clock.Clock
  const scope = yield* Scope.fork(yield* Effect.scope, "parallel")
  const keyWatchTimer = yield* Scope.provide(sharedTimer.make(Duration.millis(200)), scope)
  const releaseTimer = yield* Scope.provide(sharedTimer.make(Duration.millis(patience.patienceMillis)), scope)
  const shared = patience.make(releaseTimer)
  // Added after the scope of the sessions was, so it runs before they end.
  const holders = yield* clientClose.make
  const slots = new Map<number, Slot>()
  const now = () => monotonicMillis(clock)
  const onClock: SessionPool["onClock"] = Effect.provideService(Clock.Clock, clock)

  const open = Effect.fnUntraced(function*(seconds: number): Effect.fn.Return<Slot> {
    const slot: Slot = {
      seconds,
      scope: yield* Scope.fork(scope),
      session: Deferred.makeUnsafe(),
      users: 0,
      idleSince: 0,
      isWatched: false
    }
    slots.set(seconds, slot)
    yield* Scope.addFinalizer(slot.scope, Deferred.fail(slot.session, clientClose.closed))
    yield* leaseGrant.grant(backend, Duration.seconds(seconds), waitForRevocation).pipe(
      Effect.flatMap((granted) => renewal.keep(backend, granted)),
      Scope.provide(slot.scope),
      Effect.flatMap(withListeners),
      Effect.map((session): SharedSession => ({
        ...session,
        ...claims(),
        scope: slot.scope,
        keyWatchTimer,
        patience: shared,
        finish: (effect) => finish(slot, effect),
        retire: retire(slot)
      })),
      Effect.onExit((exit) => opened(slot, exit)),
      outlivingItsCaller(context),
      Effect.forkIn(slot.scope, { startImmediately: true })
    )
    return slot
  })

  /** While the store is silent there is little hope, so there is little time for it. */
  const waitForRevocation: leaseGrant.WaitFor = (revocation) =>
    Effect.suspend(() =>
      leaseGrant.waitAtMost(revocation, shared.isExhausted() ? hopelessMillis : patience.patienceMillis)
    )

  const opened = (slot: Slot, exit: Exit.Exit<SharedSession, KvError.KvError>): Effect.Effect<unknown> => {
    if (Exit.isSuccess(exit)) return Deferred.done(slot.session, exit)
    // Interrupted is only what is closed: then those who wait are told by the scope.
    return Effect.andThen(
      retire(slot),
      Exit.hasInterrupts(exit)
        ? Effect.void
        : Deferred.complete(slot.session, Effect.catchReason(exit, "KvError", "Indeterminate", notGranted))
    )
  }

  const isRetired = (slot: Slot): boolean => slots.get(slot.seconds) !== slot

  const retire = (slot: Slot): Effect.Effect<void> =>
    Effect.sync(() => {
      if (!isRetired(slot)) slots.delete(slot.seconds)
    })

  const finish = (slot: Slot, effect: Effect.Effect<unknown>): Effect.Effect<Fiber.Fiber<unknown>> =>
    Effect.suspend(() => {
      slot.users++
      return Effect.forkIn(onClock(Effect.ensuring(effect, leave(slot))), slot.scope, { startImmediately: true })
    })

  const leave = (slot: Slot): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (--slot.users > 0) return Effect.void
      // In the background: who leaves need not wait for the lease to be revoked, nor for what a backend does not let go of.
      if (isRetired(slot)) return inBackground(Scope.close(slot.scope, Exit.void))
      slot.idleSince = now()
      if (slot.isWatched) return Effect.void
      slot.isWatched = true
      return inBackground(endWhenIdle(slot))
    })

  const inBackground = (effect: Effect.Effect<void>): Effect.Effect<void> =>
    effect.pipe(outlivingItsCaller(context), Effect.forkIn(scope), Effect.asVoid)

  const endWhenIdle = (slot: Slot): Effect.Effect<void> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.gen(function*() {
        while (slot.users === 0) {
          const remaining = isRetired(slot) ? 0 : slot.idleSince + idleMillis - now()
          if (remaining <= 0) {
            yield* retire(slot)
            return yield* Scope.close(slot.scope, Exit.void)
          }
          // Not for a fraction that no clock can tell from no time.
          yield* restore(Effect.sleep(Math.ceil(remaining)))
        }
        slot.isWatched = false
      })
    )

  /** Uses the session until the scope closes, or the effect that comes of it is run. */
  const use = (slot: Slot, user: Scope.Scope): Effect.Effect<Effect.Effect<void>> =>
    Effect.suspend(() => {
      slot.users++
      let hasLeft = false
      const leaveOnce = Effect.suspend(() => {
        if (hasLeft) return Effect.void
        hasLeft = true
        return leave(slot)
      })
      return Effect.as(Scope.addFinalizer(user, leaveOnce), leaveOnce)
    })

  const join = (seconds: number, user: Scope.Scope): Effect.Effect<SharedSession, KvError.KvError> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.gen(function*() {
        while (scope.state._tag !== "Closed" && !holders.isClosing()) {
          const slot = slots.get(seconds) ?? (yield* open(seconds))
          const leaveNow = yield* use(slot, user)
          const session = yield* restore(withinDeadline(slot.session))
          if (session.isAliveUnsafe()) return session
          // Lost while others still use it: they keep theirs until they let go, we open another.
          yield* retire(slot)
          yield* leaveNow
        }
        return yield* clientClose.closed
      })
    )

  return {
    onClock,
    get: (ttl, user) => Effect.flatMap(grantSeconds({ ttl }), (seconds) => join(seconds, user)),
    holders
  }
})

/** How long a revocation is waited for, in milliseconds, when the store has not answered for a second. */
const hopelessMillis = 200

/** The grant serves all who wait for it. Each of them waits no longer than its own deadline. */
const withinDeadline = (
  session: Deferred.Deferred<SharedSession, KvError.KvError>
): Effect.Effect<SharedSession, KvError.KvError> =>
  Effect.flatMap(Deadline.Deadline, (deadline) =>
    deadline === undefined || Deferred.isDoneUnsafe(session)
      ? Deferred.await(session)
      : Effect.timeoutOrElse(Deferred.await(session), {
        duration: deadline,
        orElse: () =>
          KvError.fail(
            new KvError.Unavailable({ message: `no lease was granted within ${Duration.format(deadline)}` })
          )
      }))

/** Nothing was written under the lease, and it is revoked: whoever waited for it may try again. */
const notGranted = (reason: KvError.Indeterminate): Effect.Effect<never, KvError.KvError> =>
  KvError.fail(new KvError.Unavailable({ message: `no lease was granted: ${reason.message}` }))

/** Of the caller neither the deadline, nor the span, nor anything else stays with what it began for others. */
const outlivingItsCaller = (context: Context.Context<never>) => <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.updateContext(effect, (_: Context.Context<never>) => context)
