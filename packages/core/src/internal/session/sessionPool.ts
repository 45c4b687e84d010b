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
import * as clientClose from "./clientClose.ts"
import * as expiry from "./leaseDeadline.ts"
import * as leaseGrant from "./leaseGrant.ts"
import * as lossLog from "./lossLog.ts"
import * as Session from "./model.ts"
import * as patience from "./patience.ts"
import type { Patience } from "./patience.ts"
import * as renewal from "./renewal.ts"
import * as afterwards from "./sharedTimer.ts"
import type { Afterwards } from "./sharedTimer.ts"

/** A session with what its users must know of each other. */
export interface SharedSession extends renewal.Renewed {
  /** Ends with the lease. */
  readonly scope: Scope.Scope
  /** Has something done although those who began it may go: it uses the session as they do, and ends with it at the latest. */
  readonly finish: (effect: Effect.Effect<unknown>) => Effect.Effect<Fiber.Fiber<unknown>>
  /** Calls the function when the session is lost, at once if it is; until it is told to forget it. */
  readonly onLost: (f: (reason: string) => void) => () => void
  /** After 200 milliseconds: for what is not worth it where it is over sooner. */
  readonly afterAWhile: Afterwards
  /** How long those who end wait for the store. */
  readonly patience: Patience
  /** The locks that stand on it, for the log to name them when it is lost. */
  readonly locks: Set<lossLog.LockOfSession>
  /** Claims a key that nobody of this session uses, made from `base`. */
  readonly claim: (base: string) => string
  /** Claims exactly this; false if it is claimed already. */
  readonly tryClaim: (key: string) => boolean
  /** Gives a key back, which must be known to be gone. */
  readonly unclaim: (key: string) => void
  /** Whoever comes now gets another session. This one ends when the last of its users lets go. */
  readonly retire: Effect.Effect<void>
}

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
  const afterAWhile = yield* Scope.provide(afterwards.make(Duration.millis(200)), scope)
  const afterPatience = yield* Scope.provide(afterwards.make(Duration.millis(patience.patienceMillis)), scope)
  const shared = patience.make(afterPatience)
  // Added after the scope of the sessions was, so it runs before they end.
  const holders = yield* clientClose.make
  const slots = new Map<number, Slot>()
  const now = () => expiry.now(clock).monotonicMillis
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
    yield* Scope.addFinalizer(slot.scope, Deferred.fail(slot.session, closed))
    yield* leaseGrant.grant(backend, Duration.seconds(seconds), waitForRevocation).pipe(
      Effect.flatMap((granted) => renewal.keep(backend, granted)),
      Scope.provide(slot.scope),
      Effect.flatMap(withListeners),
      Effect.map((session): SharedSession => ({
        ...session,
        ...claims(),
        scope: slot.scope,
        afterAWhile,
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
        return yield* closed
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

/** Gives the effects that come next what is left of the deadline, which is for all of them; a millisecond when nothing is. */
export const fromNow = Effect.gen(function*() {
  const clock = yield* Clock.Clock
  const deadline = yield* Deadline.Deadline
  const began = clock.monotonicTimeNanosUnsafe()
  return <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    deadline === undefined ? effect : Effect.suspend(() => {
      const spent = Number(clock.monotonicTimeNanosUnsafe() - began) / 1_000_000
      return Effect.provideService(
        effect,
        Deadline.Deadline,
        Duration.millis(Math.max(1, Math.floor(Duration.toMillis(deadline) - spent)))
      )
    })
})

/**
 * Uses a session of the pool until the scope closes. Where the store turns out to have ended it unnoticed, so that nothing
 * was written, it is tried once more with another. The caller's deadline is for all of it together.
 */
export const withLive = <A>(
  pool: SessionPool,
  ttl: Duration.Input | undefined,
  scope: Scope.Scope,
  use: (session: SharedSession) => Effect.Effect<A, KvError.KvError>
): Effect.Effect<A, KvError.KvError> =>
  Effect.gen(function*() {
    const inTime = yield* fromNow
    const attempt = Effect.flatMap(
      inTime(pool.get(ttl ?? Session.defaultTtl, scope)),
      (session) =>
        Effect.tapError(
          inTime(use(session)),
          (error) =>
            error.reason._tag === "LeaseNotFound" ? Effect.andThen(session.retire, session.verify) : Effect.void
        )
    )
    return yield* Effect.catchReason(attempt, "KvError", "LeaseNotFound", () => attempt)
  })

const closed = KvError.make(new KvError.Closed({ message: "the client was closed" }))

/** Of the caller neither the deadline, nor the span, nor anything else stays with what it began for others. */
const outlivingItsCaller = (context: Context.Context<never>) => <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.updateContext(effect, (_: Context.Context<never>) => context)

/** Listeners are plain functions, for there are as many as there are locks. */
const withListeners = (
  session: renewal.Renewed
): Effect.Effect<Pick<SharedSession, "onLost" | "locks"> & renewal.Renewed> => {
  const listeners = new Set<(reason: string) => void>()
  const locks = new Set<lossLog.LockOfSession>()
  let lost: string | undefined
  const onLost: SharedSession["onLost"] = (f) => {
    if (lost === undefined) listeners.add(f)
    else f(lost)
    return () => listeners.delete(f)
  }
  // Ends by itself: at the latest the session is lost when its scope closes, which is to be told too.
  return Effect.as(
    Effect.forkDetach(Effect.flatMap(session.lostReason, (reason) => {
      lost = reason
      const held = [...locks]
      for (const listener of listeners) listener(reason)
      return lossLog.sessionLost(session.lease, reason, held)
    })),
    { ...session, onLost, locks }
  )
}

const claims = (): Pick<SharedSession, "claim" | "tryClaim" | "unclaim"> => {
  const claimed = new Set<string>()
  let suffix = 0
  return {
    claim: (base) => {
      let key = base
      while (claimed.has(key)) key = `${base}-${++suffix}`
      claimed.add(key)
      return key
    },
    tryClaim: (key) => {
      if (claimed.has(key)) return false
      claimed.add(key)
      return true
    },
    unclaim: (key) => {
      claimed.delete(key)
    }
  }
}
