/**
 * The renewal of a granted lease, and the detection of its loss.
 *
 * Two independent fibers: one renews the lease, one watches the clock. Even if the backend's renewal crashes, hangs
 * uninterruptibly or interrupts itself, the second fiber ends the session in time.
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { KvBackend } from "../../backend/KvBackend.ts"
import * as LastFailure from "../../backend/LastFailure.ts"
import * as Deadline from "../../values/Deadline.ts"
import * as KvError from "../../values/KvError.ts"
import type * as Lease from "../../values/LeaseModel.ts"
import type { ClientMetrics, LossCause } from "../metrics/client.ts"
import * as spans from "../tracing/spans.ts"
import * as clientClose from "./clientClose.ts"
import * as leaseDeadline from "./leaseDeadline.ts"
import type { Granted } from "./leaseGrant.ts"
import type { Session } from "./model.ts"
import { SessionLost } from "./sessionLost.ts"

/** A session with the parts that only this library uses. */
export interface Renewed extends Session {
  /** Waits until the session is lost or its scope is closed, and returns why. */
  readonly lostReason: Effect.Effect<string>
  /** Why the last renewal failed; `undefined` if it succeeded or none was due yet. */
  readonly lastFailureUnsafe: () => KvError.Reason | undefined
  /** The reason of a loss for lack of a renewal, with why there was none. */
  readonly outOfTimeUnsafe: () => string
  /** Calls the function whenever the store denies a renewal. Returns the function that removes it. */
  readonly onDenied: (f: () => void) => () => void
}

/** The loss reason of a session that its owner closed. */
export const closed = "it was closed"

const outOfTime = "its lease could not be renewed in time"
const leaseEnded = "the store has ended its lease"

/** The causes of a session's end, for metrics. An orderly end has none. */
export const causes: ReadonlyArray<{ readonly text: string; readonly cause: LossCause | undefined }> = [
  { text: outOfTime, cause: "NotRenewed" },
  { text: leaseEnded, cause: "LeaseEnded" },
  { text: closed, cause: undefined },
  { text: clientClose.closedMessage, cause: undefined }
]

/** Whether the reason is an orderly end: its owner or the client closed the session. */
export const isOrderly = (reason: string): boolean => reason === closed || reason === clientClose.closedMessage

/** The cause of a session's end for metrics; `undefined` if it was orderly. A text may be followed by details. */
export const causeOf = (reason: string): LossCause | undefined =>
  causes.find(({ text }) => reason === text || reason.startsWith(`${text}: `))?.cause

const maxStepMillis = 500

/** Renews the lease until the scope closes or it is lost. */
export const keep = Effect.fnUntraced(function*(
  backend: KvBackend,
  { expires: granted, lease, ttl }: Granted,
  metrics: ClientMetrics,
  onEnd: (reason: string, isOrderly: boolean) => void
): Effect.fn.Return<Renewed, never, Scope.Scope> {
  const clock = yield* Clock.Clock
  const third = Duration.toMillis(ttl) / 3
  let expires = granted
  let lastFailure: KvError.Reason | undefined
  const renewals = new LastFailure.LastFailure()
  const onDenied = new Set<() => void>()
  const lost = yield* Deferred.make<string>()
  let wake = yield* Deferred.make<void>()

  const remaining = () => leaseDeadline.remainingMillis(clock, expires)
  const ended = metrics.sessionBegan({ margin: () => Math.max(0, remaining()) / Duration.toMillis(ttl) })
  const loseUnsafe = (reason: string): void => {
    if (!Deferred.doneUnsafe(lost, Effect.succeed(reason))) return
    onEnd(reason, isOrderly(reason))
    ended(causeOf(reason))
  }
  const lose = (reason: string) => Effect.sync(() => loseUnsafe(reason))
  const outOfTimeUnsafe = (): string => {
    const why = lastFailure ?? renewals.lastFailure
    return why === undefined ? outOfTime : `${outOfTime}: ${why.message}`
  }
  const loseOutOfTime = Effect.sync(() => loseUnsafe(outOfTimeUnsafe()))

  /** A response after the deadline is too late: the session was lost when the deadline passed. */
  const renewed = (sent: leaseDeadline.Instant, ttl: Duration.Duration) =>
    Effect.suspend(() => {
      lastFailure = undefined
      const left = remaining()
      if (left <= 0) return loseOutOfTime
      metrics.renewed(left)
      expires = leaseDeadline.after(sent, ttl)
      return Effect.void
    })

  const notRenewed = (reason: KvError.Reason) => {
    switch (reason._tag) {
      case "LeaseNotFound":
        return lose(leaseEnded)
      case "Closed":
        return lose(clientClose.closedMessage)
      default:
        // Any other failure may pass, so the renewal is repeated until the deadline.
        lastFailure = reason
        metrics.notRenewed(reason)
        if (reason._tag === "PermissionDenied") { for (const f of Array.from(onDenied)) f() }
        return Effect.sleep(Duration.millis(Math.min(third / 10, 500)))
    }
  }

  const renew: Effect.Effect<unknown> = Effect.suspend(() => {
    if (remaining() <= 0) return loseOutOfTime
    const sent = leaseDeadline.now(clock)
    return Effect.flatMap(
      attempt(backend, lease, renewals, Duration.millis(Math.max(1, Math.min(remaining(), third)))),
      (exit) => {
        if (Exit.isSuccess(exit)) return renewed(sent, exit.value.ttl)
        const error = Exit.findErrorOption(exit)
        return notRenewed(Option.isSome(error) ? error.value.reason : crashed)
      }
    )
  })

  const untilRenewalIsDue = Effect.gen(function*() {
    const sinceRenewal = leaseDeadline.reliableMillis(ttl) - remaining()
    if (sinceRenewal >= third) return
    const woken = yield* Effect.timeoutOption(Deferred.await(wake), Duration.millis(third - sinceRenewal))
    if (Option.isSome(woken)) wake = yield* Deferred.make<void>()
  })

  const keepAlive = Effect.forever(Effect.andThen(untilRenewalIsDue, renew))

  // Sleeps in short steps, because sleeps follow the monotonic clock alone. A step notices a wall clock that jumped,
  // and a monotonic clock that stood still while the machine was suspended.
  const watchDeadline = Effect.gen(function*() {
    while (remaining() > 0) {
      yield* Effect.sleep(Duration.millis(Math.min(remaining(), maxStepMillis)))
    }
    yield* loseOutOfTime
  })

  yield* Effect.forkScoped(Effect.raceFirst(keepAlive, Deferred.await(lost)))
  yield* Effect.forkScoped(Effect.raceFirst(watchDeadline, Deferred.await(lost)))
  yield* Effect.addFinalizer(() => lose(closed))

  const isAliveUnsafe = () => {
    if (Deferred.isDoneUnsafe(lost)) return false
    if (remaining() > 0) return true
    // Once the session is found lost it stays lost, even if a clock is set back.
    loseUnsafe(outOfTimeUnsafe())
    return false
  }

  return {
    lease,
    ttl,
    isAlive: Effect.sync(isAliveUnsafe),
    isAliveUnsafe,
    lost: Effect.flatMap(Deferred.await(lost), (reason) => Effect.fail(new SessionLost({ lease, reason }))),
    lostReason: Deferred.await(lost),
    verify: Effect.suspend(() => Deferred.succeed(wake, undefined)),
    lastFailureUnsafe: () => lastFailure,
    outOfTimeUnsafe,
    onDenied: (f) => {
      onDenied.add(f)
      return () => onDenied.delete(f)
    }
  }
})

const crashed = new KvError.Unavailable({ message: "the backend crashed while it renewed the lease" })

const notInTime = (why: KvError.Reason | undefined): KvError.KvError =>
  KvError.make(
    new KvError.Unavailable({
      message: why?.message ?? "the store did not respond to a renewal of the lease in time"
    })
  )

/**
 * One renewal in its own fiber. After `limit` the fiber is interrupted, but not awaited: a backend may be slow to stop.
 */
const attempt = (
  backend: KvBackend,
  lease: bigint,
  record: LastFailure.LastFailure,
  limit: Duration.Duration
): Effect.Effect<Exit.Exit<Lease.Lease, KvError.KvError>> =>
  Effect.contextWith((context) =>
    Effect.callback<Exit.Exit<Lease.Lease, KvError.KvError>>((resume) => {
      const fiber = Effect.runForkWith(spans.contextWithout(context))(
        Effect.suspend(() => backend.leaseKeepAlive(lease)).pipe(
          Effect.provideService(Deadline.Deadline, limit),
          LastFailure.recorded(record)
        )
      )
      fiber.addObserver((exit) => resume(Effect.succeed(exit)))
      return Effect.sync(() => fiber.interruptUnsafe())
    }).pipe((renewed) =>
      Effect.raceFirst(
        renewed,
        Effect.map(Effect.sleep(limit), () => Exit.fail(notInTime(record.lastFailure)))
      )
    )
  )
