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
    Effect.withFiber((caller) => {
      const clock = caller.getRef(Clock.Clock)
      const deadline = caller.getRef(Deadline.Deadline)
      const waitsUntilMillis = monotonicMillis(clock) +
        Math.min(maxReleaseWaitMillis, deadline ? Duration.toMillis(deadline) : Infinity)
      const attachments = Array.map(keys, (): Attachment => ({ removal: "None", waitsUntilMillis }))
      if (keys.some(({ scope }) => scope.state._tag === "Closed")) {
        for (const { plan } of keys) {
          plan.onRemove()
          plan.onGone()
        }
        return Effect.fail(scopeClosed)
      }
      const { session, write } = keys[0].plan
      return Effect.gen(function*() {
        const request = yield* Effect.forkIn(write, session.scope, { startImmediately: true })
        // Added while the store executes the request. Nothing can interrupt this fiber in between. If a scope was closed
        // meanwhile, its finalizer runs now.
        yield* forAll(keys, ({ plan, scope }, i) => {
          const attachment = attachments[i]!
          return Scope.addFinalizer(
            scope,
            // The fiber that closes the scope may have another clock, such as a test clock that stands still.
            onClock(clock, () => {
              attachment.removal = "Begun"
              plan.onRemove()
              return remove(plan, request, attachment)
            })
          )
        })
        if (attachments.some(({ removal }) => removal !== "None")) return yield* scopeClosed
        const exit = yield* restore(Fiber.await(request))
        if (Exit.isSuccess(exit)) return { result: exit.value, attachments }
        // Only the session's scope can interrupt this request.
        const result = yield* (Exit.hasInterrupts(exit)
          ? clientClose.closed
          : Effect.catchReason(exit, "KvError", "Indeterminate", willBeUndone))
        return { result, attachments }
      })
    })
  )

/** Runs the effects at the same time. In most cases there is one. */
const forAll = <A>(
  items: NonEmptyReadonlyArray<A>,
  f: (item: A, i: number) => Effect.Effect<void>
): Effect.Effect<void> =>
  items.length === 1 ? f(items[0], 0) : Effect.forEach(items, f, { concurrency: "unbounded", discard: true })

const onClock = <A, E, R>(clock: Clock.Clock, effect: () => Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.clockWith((current) =>
    current === clock ? effect() : Effect.provideService(Effect.suspend(effect), Clock.Clock, clock)
  )

/** The removal undoes a write with an unknown outcome, so the caller gets a failure that it can retry. */
const willBeUndone = (reason: KvError.Indeterminate): Effect.Effect<never, KvError.KvError> =>
  KvError.fail(
    new KvError.Unavailable({ message: `the write's outcome is unknown and it will be undone: ${reason.message}` })
  )

const scopeClosed = KvError.make(new KvError.Closed({ message: "the scope was closed before anything was written" }))

const gone = <A>(plan: Plan<A>): Effect.Effect<void> => Effect.sync(() => plan.onGone())

/**
 * Removes the key in the background, and waits for the removal for a limited time (see `releaseWait.ts`). Does not wait
 * if the session is lost. If the write failed, the time that it took counts, so the caller's deadline holds.
 */
const remove = <A>(
  plan: Plan<A>,
  request: Fiber.Fiber<A, KvError.KvError>,
  attachment: Attachment
): Effect.Effect<void> => {
  const { releaseWait } = plan.session
  let hasResponse = false
  const onResponse = () => {
    hasResponse = true
    releaseWait.onResponse()
  }
  const removal = (exit: Exit.Exit<A, KvError.KvError>): Effect.Effect<void> => {
    const removed = removeWritten(plan, exit, attachment, onResponse)
    const { afterRemoval } = plan
    return afterRemoval === undefined ? removed : Effect.andThen(removed, Effect.suspend(() => follow(afterRemoval())))
  }
  const response = request.pollUnsafe()
  return Effect.flatMap(
    plan.session.finish(response === undefined ? Effect.flatMap(Fiber.await(request), removal) : removal(response)),
    (fiber) => {
      if (fiber.pollUnsafe() !== undefined || !plan.session.isAliveUnsafe()) return Effect.void
      const written = request.pollUnsafe()
      return written !== undefined && Exit.isFailure(written)
        ? Effect.clockWith((clock) =>
          releaseWait.wait(
            { fiber, hasResponse: () => hasResponse },
            attachment.waitsUntilMillis - monotonicMillis(clock)
          )
        )
        : releaseWait.wait({ fiber, hasResponse: () => hasResponse }, maxReleaseWaitMillis)
    }
  )
}

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
  const { wasRemoved } = plan
  const removal: Effect.Effect<Removal, KvError.KvError> = wasRemoved === undefined
    ? deleteIf(plan, condition)
    : Effect.flatMap(deleteIf(plan, condition), (deleted) =>
      deleted.succeeded || !mayBeRemoved
        ? Effect.succeed(deleted)
        : Effect.map(
          Effect.provideService(wasRemoved(), Deadline.Deadline, attemptDeadline),
          (succeeded) => ({ succeeded })
        ))
  return persistently(plan, removal, {
    onResponse,
    onSuccess: ({ succeeded }) => {
      attachment.removal = succeeded || mayBeRemoved && wasRemoved === undefined ? "Found" : "Missing"
      plan.onGone()
    },
    onFailure: (error) => {
      mayBeRemoved ||= error.outcome === "Unknown"
    }
  })
}

/** Whether a removal has found the key. */
type Removal = Pick<Op.TxnResponse, "succeeded">

/** What is to be known of the attempts to remove a key. */
interface Observer {
  /** Called with each response, even if it rejects the removal. */
  readonly onResponse: () => void
  readonly onSuccess?: (removal: Removal) => void
  readonly onFailure?: (error: KvError.KvError) => void
}

/**
 * Repeats a removal until the store responds. If the store keeps rejecting it, for example for lack of a permission,
 * the removal is given up. Then only the end of the lease removes the key, so the session is retired: it ends with the
 * last of its users.
 */
const persistently = <A>(
  plan: Plan<A>,
  removal: Effect.Effect<Removal, KvError.KvError>,
  { onFailure, onResponse, onSuccess }: Observer
): Effect.Effect<void> => {
  const attempt = (rejections: number): Effect.Effect<void> =>
    Effect.matchEffect(removal, {
      onSuccess: (removal) => {
        onResponse()
        onSuccess?.(removal)
        return Effect.void
      },
      onFailure: (error): Effect.Effect<void> => {
        onFailure?.(error)
        if (error.reason._tag === "Closed") return Effect.void
        if (!isRejected(error)) return Effect.delay(attempt(rejections), retryInterval)
        onResponse()
        const pause = rejectedIntervals[rejections]
        return pause === undefined
          ? Effect.andThen(plan.session.retire, lossLog.keyLeft(plan.key, plan.session.lease, error.message))
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

/**
 * Deletes the key if the condition holds. Safe to repeat: it never deletes a later key of that name.
 */
const deleteIf = <A>(plan: Plan<A>, condition: Compare.Compare): Effect.Effect<Removal, KvError.KvError> => {
  const deletion = (others: ReadonlyArray<Op.Op>) =>
    execute(
      plan.backend,
      Op.txn({ if: [condition], then: [Op.delete(plan.key), ...(plan.removedWith?.() ?? []), ...others] })
    )
  return Effect.provideService(
    plan.withRemoval === undefined
      ? Effect.suspend(() => deletion([]))
      : Effect.flatMap(plan.withRemoval, deletion),
    // Not the caller's deadline: the key must be removed even if that has passed.
    Deadline.Deadline,
    attemptDeadline
  )
}

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
    Effect.andThen(persistently(plan, remove, { onResponse }))
  )
}
