/**
 * A key attached to a session's lease: written by one request, and removed when a scope closes, whatever has become of
 * the request until then.
 *
 * A request that was sent cannot be taken back. So one whose caller is interrupted goes on, for its answer tells what there
 * is to remove; and one whose answer is lost is guarded against until the lease ends, which ends the key for good.
 */
import * as Array from "effect/Array"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { execute, type KvBackend } from "../../backend/KvBackend.ts"
import * as Compare from "../../values/Compare.ts"
import * as Deadline from "../../values/Deadline.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import { monotonicMillis } from "../values/monotonic.ts"
import * as clientClose from "./clientClose.ts"
import * as lossLog from "./lossLog.ts"
import { patienceMillis } from "./patience.ts"
import type { SharedSession } from "./sharedSession.ts"

/** How a key is written, and known again. */
export interface Plan<A> {
  readonly backend: KvBackend
  readonly session: SharedSession
  readonly key: string
  /** Writes the key, attached to the session's lease, in one request. */
  readonly write: Effect.Effect<A, KvError.KvError>
  /** What holds of the key as long as it is the one that was written; `undefined` if nothing was. */
  readonly identify: (answer: A) => Compare.Compare | undefined
  /** Called when the scope closes, before anything is removed. */
  readonly onRemove: () => void
  /** Called when the key is gone for certain. */
  readonly onGone: () => void
}

/** What has become of the key: whether its removal has begun, and whether it was found in its place then. */
export interface Attachment {
  removal: "None" | "Begun" | "Found" | "Missing"
  /** Until when the caller of a write that may have failed waits for its removal, on the monotonic clock. */
  waitsUntilMillis: number
}

/** Pause before a request that could not reach the store is sent again. */
const retryInterval = Duration.millis(500)
const attemptDeadline = Duration.seconds(3)

/** Pauses before a request that the store has rejected is sent again. After the last of them it is given up. */
const rejectedIntervals = ["500 millis", "1 second", "2 seconds", "4 seconds", "8 seconds"] as const

/** A key that is written, and the scope whose close removes it. */
export interface Attached<A> {
  readonly plan: Plan<A>
  readonly scope: Scope.Scope
}

/** Writes the key. It is removed when the scope closes, also if that happens before this is done. */
export const write = <A>(
  plan: Plan<A>,
  scope: Scope.Scope
): Effect.Effect<{ readonly answer: A; readonly attachment: Attachment }, KvError.KvError> =>
  Effect.map(
    writeAll([{ plan, scope }]),
    ({ answer, attachments: [attachment] }) => ({ answer, attachment })
  )

/** Writes several keys by the request of the first. Each is removed when its own scope closes. */
export const writeAll = <A>(
  keys: NonEmptyReadonlyArray<Attached<A>>
): Effect.Effect<
  { readonly answer: A; readonly attachments: NonEmptyReadonlyArray<Attachment> },
  KvError.KvError
> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      const deadline = yield* Deadline.Deadline
      const waitsUntilMillis = monotonicMillis(clock) +
        Math.min(patienceMillis, deadline ? Duration.toMillis(deadline) : Infinity)
      const attachments = Array.map(keys, (): Attachment => ({ removal: "None", waitsUntilMillis }))
      const sent: { request?: Fiber.Fiber<A, KvError.KvError> } = {}
      for (const [i, { plan, scope }] of keys.entries()) {
        const attachment = attachments[i]!
        yield* Scope.addFinalizer(
          scope,
          Effect.suspend(() => {
            attachment.removal = "Begun"
            plan.onRemove()
            return sent.request === undefined ? Effect.void : remove(plan, sent.request, attachment)
            // Not by the clock of whoever closes the scope, which may be that of a test.
          }).pipe(Effect.provideService(Clock.Clock, clock))
        )
      }
      if (attachments.some(isBegun)) {
        for (const { plan } of keys) plan.onGone()
        return yield* scopeClosed
      }
      const { session, write } = keys[0].plan
      const request = sent.request = yield* Effect.forkIn(write, session.scope, { startImmediately: true })
      // Closed in the midst of the line above: the finalizers saw no request.
      if (attachments.some(isBegun)) {
        const unseen = keys.flatMap(({ plan }, i) => isBegun(attachments[i]!) ? [[plan, attachments[i]!] as const] : [])
        yield* Effect.forEach(unseen, ([plan, attachment]) => remove(plan, request, attachment), {
          concurrency: "unbounded",
          discard: true
        })
        return yield* scopeClosed
      }
      const exit = yield* restore(Fiber.await(request))
      // Interrupted it can only have been by the end of its session.
      const answer = yield* (Exit.hasInterrupts(exit)
        ? clientClose.closed
        : Effect.catchReason(exit, "KvError", "Indeterminate", notKept))
      return { answer, attachments }
    })
  )

const isBegun = ({ removal }: Attachment): boolean => removal !== "None"

/** What may have been written is removed; so whoever asked for it need not be told of an outcome that is unknown. */
const notKept = (reason: KvError.Indeterminate): Effect.Effect<never, KvError.KvError> =>
  KvError.fail(new KvError.Unavailable({ message: `given up, for its outcome is unknown: ${reason.message}` }))

const scopeClosed = KvError.make(new KvError.Closed({ message: "the scope was closed before anything was written" }))

const gone = <A>(plan: Plan<A>): Effect.Effect<void> => Effect.sync(plan.onGone)

/**
 * Removes the key in the background, and waits for it as long as patience lasts; not at all where the session is lost. What
 * was waited for its writing to fail counts: a caller is not held up beyond its deadline to clean up.
 */
const remove = Effect.fnUntraced(function*<A>(
  plan: Plan<A>,
  request: Fiber.Fiber<A, KvError.KvError>,
  attachment: Attachment
) {
  const { patience } = plan.session
  let isAnswered = false
  const onAnswer = () => {
    isAnswered = true
    patience.answered()
  }
  const fiber = yield* plan.session.finish(
    Effect.flatMap(Fiber.await(request), (exit) => removeWritten(plan, exit, attachment, onAnswer))
  )
  if (fiber.pollUnsafe() !== undefined || !plan.session.isAliveUnsafe()) return
  const written = request.pollUnsafe()
  const atMost = written !== undefined && Exit.isFailure(written)
    ? attachment.waitsUntilMillis - monotonicMillis(yield* Clock.Clock)
    : patienceMillis
  yield* patience.wait({ fiber, isAnswered: () => isAnswered }, atMost)
})

/** Removes what was written, however long the store is away: whoever wants the key next should not have to wait for the lease. */
const removeWritten = <A>(
  plan: Plan<A>,
  exit: Exit.Exit<A, KvError.KvError>,
  attachment: Attachment,
  onAnswer: () => void
): Effect.Effect<unknown> => {
  if (Exit.isFailure(exit)) return isNotApplied(exit) ? gone(plan) : removeUncertain(plan, onAnswer)
  const condition = plan.identify(exit.value)
  if (condition === undefined) return Effect.void
  // An earlier delete that timed out may have succeeded, so "not found" now does not mean that the key was lost.
  let mayBeRemoved = false
  const removal = Effect.tapError(deleteIf(plan, condition), (error) =>
    Effect.sync(() => {
      mayBeRemoved ||= error.outcome === "Unknown"
    }))
  return Effect.map(persistently(plan, removal, onAnswer), (found) => {
    if (found === undefined) return
    attachment.removal = found || mayBeRemoved ? "Found" : "Missing"
    plan.onGone()
  })
}

/**
 * Repeats a removal until it is answered. If the store keeps rejecting it, as it does without a permission, it is given up:
 * `undefined`. Then only the end of the lease ends the key, so the session is retired, and ends with the last of its users.
 */
const persistently = <A>(
  plan: Plan<A>,
  removal: Effect.Effect<boolean, KvError.KvError>,
  onAnswer: () => void
): Effect.Effect<boolean | undefined> => {
  const attempt = (rejections: number): Effect.Effect<boolean | undefined> =>
    Effect.matchEffect(removal, {
      onSuccess: (found) => {
        onAnswer()
        return Effect.succeed(found)
      },
      onFailure: (error): Effect.Effect<boolean | undefined> => {
        if (error.reason._tag === "Closed") return Effect.undefined
        if (!isRejected(error)) return Effect.delay(attempt(rejections), retryInterval)
        onAnswer()
        const pause = rejectedIntervals[rejections]
        return pause === undefined
          ? Effect.andThen(
            plan.session.retire,
            Effect.as(lossLog.keyLeft(plan.key, plan.session.lease, error.message), undefined)
          )
          : Effect.delay(attempt(rejections + 1), pause)
      }
    })
  return attempt(0)
}

/** Whether the store has answered, and would again answer the same. */
const isRejected = (error: KvError.KvError): boolean => !error.isRetryable && error.outcome === "NotApplied"

const isNotApplied = (exit: Exit.Failure<unknown, KvError.KvError>): boolean =>
  exit.cause.reasons.every((reason) => reason._tag === "Fail" && reason.error.outcome === "NotApplied")

/** Deletes the key if it is the one meant; true if it was. Can be repeated without harm to what came after it. */
const deleteIf = <A>(plan: Plan<A>, condition: Compare.Compare): Effect.Effect<boolean, KvError.KvError> =>
  execute(plan.backend, Op.txn({ if: [condition], then: [Op.delete(plan.key)] })).pipe(
    // Not the caller's: it is of no use to a caller whose deadline has passed that its key stays.
    Effect.provideService(Deadline.Deadline, attemptDeadline),
    Effect.map((response) => response.succeeded)
  )

/**
 * Removes a key that may have been written, or may yet be: a request can still be on its way to the store. So it is removed
 * whenever it is found, until the session ends; so that this may be soon, the session is retired.
 */
const removeUncertain = <A>(plan: Plan<A>, onAnswer: () => void): Effect.Effect<unknown> => {
  const remove = deleteIf(plan, Compare.lease(plan.key, "=", plan.session.lease))
  const whenever = Effect.scopedWith((scope) =>
    Effect.flatMap(
      Scope.provide(plan.backend.watch({ range: KeyRange.key(plan.key), only: "Put" }), scope),
      (watcher) => Effect.forever(Effect.andThen(remove, watcher.take))
    )
  )
  /** Ends when the removal is rejected: that was repeated, and given up, below. */
  const untilRejected: Effect.Effect<unknown> = Effect.catch(
    whenever,
    (error) =>
      error.reason._tag === "Closed" || isRejected(error) && error.reason._tag !== "Compacted"
        ? Effect.void
        : Effect.delay(untilRejected, retryInterval)
  )
  return plan.session.retire.pipe(
    Effect.andThen(Effect.forkIn(untilRejected, plan.session.scope, { startImmediately: true })),
    Effect.andThen(persistently(plan, remove, onAnswer))
  )
}
