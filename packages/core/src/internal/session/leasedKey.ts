/**
 * A key attached to a session's lease: written by one request, and removed when a scope closes, whatever the outcome of
 * the request.
 *
 * A request that was sent cannot be cancelled. If its caller is interrupted, the request continues, because its
 * response says whether there is a key to remove. If its response is lost, the key is removed whenever it appears,
 * until the lease ends.
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
import * as spans from "../tracing/spans.ts"
import { monotonicMillis } from "../values/monotonic.ts"
import * as clientClose from "./clientClose.ts"
import * as lossLog from "./lossLog.ts"
import { maxReleaseWaitMillis } from "./releaseWait.ts"
import type { SharedSession } from "./sharedSession.ts"

/** How a key is written, and recognised later. */
export interface Plan<A> {
  readonly backend: KvBackend
  readonly session: SharedSession
  readonly key: string
  /** Writes the key, attached to the session's lease, in one request. */
  readonly write: Effect.Effect<A, KvError.KvError>
  /** A condition that holds as long as the key is the one that was written; `undefined` if nothing was written. */
  readonly identify: (result: A) => Compare.Compare | undefined
  /** Further writes of the transaction that removes the key, as of that moment. Default: none. */
  readonly removedWith?: (() => ReadonlyArray<Op.Op>) | undefined
  /** Operations that are executed with the removal, in its transaction. Called once for each attempt. */
  readonly withRemoval?: Effect.Effect<ReadonlyArray<Op.Op>, KvError.KvError> | undefined
  /**
   * Whether an earlier attempt to remove the key was applied, although its outcome was unknown. Read if a later attempt
   * does not find the key. Default: it was.
   */
  readonly wasRemoved?: (() => Effect.Effect<boolean, KvError.KvError>) | undefined
  /** A request once the removal has ended, repeated until the store responds or the session ends. Default: none. */
  readonly afterRemoval?: (() => Effect.Effect<unknown, KvError.KvError>) | undefined
  /** Called when the scope closes, before anything is removed. */
  readonly onRemove: () => void
  /** Called once the key is known not to exist. */
  readonly onGone: () => void
}

/** The state of the key: whether its removal has begun, and whether the removal found it. */
export interface Attachment {
  removal: "None" | "Begun" | "Found" | "Missing"
  /** The monotonic time until which the caller of a write that may have failed waits for the removal. */
  waitsUntilMillis: number
}

/** Pause before a request that could not reach the store is sent again. */
const retryInterval = Duration.millis(500)
const attemptDeadline = Duration.seconds(3)

/** Pauses before a rejected request is sent again. After the last of them it is given up. */
const rejectedIntervals = ["500 millis", "1 second", "2 seconds", "4 seconds", "8 seconds"] as const

/** A key to write, and the scope whose close removes it. */
export interface Attached<A> {
  readonly plan: Plan<A>
  readonly scope: Scope.Scope
}

/** Writes the key. It is removed when the scope closes, even if that happens before the write has ended. */
export const write = <A>(
  plan: Plan<A>,
  scope: Scope.Scope
): Effect.Effect<{ readonly result: A; readonly attachment: Attachment }, KvError.KvError> =>
  Effect.map(
    writeAll([{ plan, scope }]),
    ({ result, attachments: [attachment] }) => ({ result, attachment })
  )

/** Writes several keys with the request of the first. Each is removed when its own scope closes. */
export const writeAll = <A>(
  keys: NonEmptyReadonlyArray<Attached<A>>
): Effect.Effect<
  { readonly result: A; readonly attachments: NonEmptyReadonlyArray<Attachment> },
  KvError.KvError
> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      const deadline = yield* Deadline.Deadline
      const waitsUntilMillis = monotonicMillis(clock) +
        Math.min(maxReleaseWaitMillis, deadline ? Duration.toMillis(deadline) : Infinity)
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
            // The fiber that closes the scope may have another clock, such as a test clock that stands still.
          }).pipe(Effect.provideService(Clock.Clock, clock))
        )
      }
      if (attachments.some(isBegun)) {
        for (const { plan } of keys) plan.onGone()
        return yield* scopeClosed
      }
      const { session, write } = keys[0].plan
      const request = sent.request = yield* Effect.forkIn(write, session.scope, { startImmediately: true })
      // A scope closed while the request was forked: its finalizer saw no request, so the key is removed here.
      if (attachments.some(isBegun)) {
        const unseen = keys.flatMap(({ plan }, i) => isBegun(attachments[i]!) ? [[plan, attachments[i]!] as const] : [])
        yield* Effect.forEach(unseen, ([plan, attachment]) => remove(plan, request, attachment), {
          concurrency: "unbounded",
          discard: true
        })
        return yield* scopeClosed
      }
      const exit = yield* restore(Fiber.await(request))
      // Only the session's scope can interrupt this request.
      const result = yield* (Exit.hasInterrupts(exit)
        ? clientClose.closed
        : Effect.catchReason(exit, "KvError", "Indeterminate", willBeUndone))
      return { result, attachments }
    })
  )

const isBegun = ({ removal }: Attachment): boolean => removal !== "None"

/** The removal undoes a write with an unknown outcome, so the caller gets a failure that it can retry. */
const willBeUndone = (reason: KvError.Indeterminate): Effect.Effect<never, KvError.KvError> =>
  KvError.fail(
    new KvError.Unavailable({ message: `the write's outcome is unknown and it will be undone: ${reason.message}` })
  )

const scopeClosed = KvError.make(new KvError.Closed({ message: "the scope was closed before anything was written" }))

const gone = <A>(plan: Plan<A>): Effect.Effect<void> => Effect.sync(plan.onGone)

/**
 * Removes the key in the background, and waits for the removal for a limited time (see `releaseWait.ts`). Does not wait
 * if the session is lost. If the write failed, the time that it took counts, so the caller's deadline holds.
 */
const remove = Effect.fnUntraced(function*<A>(
  plan: Plan<A>,
  request: Fiber.Fiber<A, KvError.KvError>,
  attachment: Attachment
) {
  const { releaseWait } = plan.session
  let hasResponse = false
  const onResponse = () => {
    hasResponse = true
    releaseWait.onResponse()
  }
  const fiber = yield* plan.session.finish(
    Effect.flatMap(Fiber.await(request), (exit) => removeWritten(plan, exit, attachment, onResponse)).pipe(
      Effect.andThen(Effect.suspend(() => plan.afterRemoval === undefined ? Effect.void : follow(plan.afterRemoval())))
    )
  )
  if (fiber.pollUnsafe() !== undefined || !plan.session.isAliveUnsafe()) return
  const written = request.pollUnsafe()
  const atMost = written !== undefined && Exit.isFailure(written)
    ? attachment.waitsUntilMillis - monotonicMillis(yield* Clock.Clock)
    : maxReleaseWaitMillis
  yield* releaseWait.wait({ fiber, hasResponse: () => hasResponse }, atMost)
})

/** Removes the key, through outages: the next client that wants it should not have to wait for the lease to end. */
const removeWritten = <A>(
  plan: Plan<A>,
  exit: Exit.Exit<A, KvError.KvError>,
  attachment: Attachment,
  onResponse: () => void
): Effect.Effect<unknown> => {
  if (Exit.isFailure(exit)) return isNotApplied(exit) ? gone(plan) : removeUncertain(plan, onResponse)
  const condition = plan.identify(exit.value)
  if (condition === undefined) return Effect.void
  // An earlier delete that timed out may have succeeded, so "not found" now does not mean that the key was lost.
  let mayBeRemoved = false
  const removal = Effect.tapError(
    Effect.flatMap(deleteIf(plan, condition), (found) =>
      found || !mayBeRemoved || plan.wasRemoved === undefined
        ? Effect.succeed(found || mayBeRemoved)
        : Effect.provideService(plan.wasRemoved(), Deadline.Deadline, attemptDeadline)),
    (error) =>
      Effect.sync(() => {
        mayBeRemoved ||= error.outcome === "Unknown"
      })
  )
  return Effect.map(persistently(plan, removal, onResponse), (found) => {
    if (found === undefined) return
    attachment.removal = found ? "Found" : "Missing"
    plan.onGone()
  })
}

/**
 * Repeats a removal until the store responds. If the store keeps rejecting it, for example for lack of a permission,
 * the removal is given up and the result is `undefined`. Then only the end of the lease removes the key, so the session
 * is retired: it ends with the last of its users.
 */
const persistently = <A>(
  plan: Plan<A>,
  removal: Effect.Effect<boolean, KvError.KvError>,
  onResponse: () => void
): Effect.Effect<boolean | undefined> => {
  const attempt = (rejections: number): Effect.Effect<boolean | undefined> =>
    Effect.matchEffect(removal, {
      onSuccess: (found) => {
        onResponse()
        return Effect.succeed(found)
      },
      onFailure: (error): Effect.Effect<boolean | undefined> => {
        if (error.reason._tag === "Closed") return Effect.undefined
        if (!isRejected(error)) return Effect.delay(attempt(rejections), retryInterval)
        onResponse()
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

const follow = (request: Effect.Effect<unknown, KvError.KvError>): Effect.Effect<void> =>
  request.pipe(
    Effect.provideService(Deadline.Deadline, attemptDeadline),
    Effect.catch((error): Effect.Effect<unknown> =>
      error.reason._tag === "Closed" || isRejected(error) ? Effect.void : Effect.delay(follow(request), retryInterval)
    ),
    Effect.asVoid
  )

/** Whether the store has responded, and would respond the same again. */
const isRejected = (error: KvError.KvError): boolean => !error.isRetryable && error.outcome === "NotApplied"

const isNotApplied = (exit: Exit.Failure<unknown, KvError.KvError>): boolean =>
  exit.cause.reasons.every((reason) => reason._tag === "Fail" && reason.error.outcome === "NotApplied")

const nothing: Effect.Effect<ReadonlyArray<Op.Op>> = Effect.succeed([])

/**
 * Deletes the key if the condition holds; true if it did. Safe to repeat: it never deletes a later key of that name.
 */
const deleteIf = <A>(plan: Plan<A>, condition: Compare.Compare): Effect.Effect<boolean, KvError.KvError> =>
  Effect.flatMap(
    plan.withRemoval ?? nothing,
    (others) =>
      execute(
        plan.backend,
        Op.txn({ if: [condition], then: [Op.delete(plan.key), ...(plan.removedWith?.() ?? []), ...others] })
      )
  ).pipe(
    // Not the caller's deadline: the key must be removed even if that has passed.
    Effect.provideService(Deadline.Deadline, attemptDeadline),
    Effect.map((response) => response.succeeded)
  )

/**
 * Removes a key that may have been written, or may still be written by a request in flight. The key is removed whenever
 * it appears, until the session ends. The session is retired so that it ends soon.
 */
const removeUncertain = <A>(plan: Plan<A>, onResponse: () => void): Effect.Effect<unknown> => {
  const remove = deleteIf(plan, Compare.lease(plan.key, "=", plan.session.lease))
  const wheneverPut = Effect.scopedWith((scope) =>
    Effect.flatMap(
      Scope.provide(plan.backend.watch({ range: KeyRange.key(plan.key), only: "Put" }), scope),
      (watcher) => Effect.forever(Effect.andThen(remove, watcher.take))
    )
  )
  /** Ends when the removal is rejected: `persistently` handles that. */
  const untilRejected: Effect.Effect<unknown> = Effect.catch(
    wheneverPut,
    (error) =>
      error.reason._tag === "Closed" || isRejected(error) && error.reason._tag !== "Compacted"
        ? Effect.void
        : Effect.delay(untilRejected, retryInterval)
  )
  return plan.session.retire.pipe(
    Effect.andThen(Effect.forkIn(spans.without(untilRejected), plan.session.scope, { startImmediately: true })),
    Effect.andThen(persistently(plan, remove, onResponse))
  )
}
