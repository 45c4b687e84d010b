/**
 * A watch that is opened again when it fails, from the revision after the last one that it delivered. No event is lost
 * or delivered twice.
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { KvBackend } from "../../backend/KvBackend.ts"
import type { KvError } from "../../values/KvError.ts"
import type { Revision, Status, Watcher, WatchRequest } from "../../values/Watch.ts"
import * as watcherTake from "./watcherTake.ts"

/** The schedule by which a watch is opened again. Its input is the failure. */
export type Resume = Schedule.Schedule<unknown, KvError>

type State =
  | { readonly _tag: "Open"; readonly watcher: Watcher; readonly scope: Scope.Closeable }
  | { readonly _tag: "Failed"; readonly error: KvError }

/** Opens the watch, and opens it again when that or the watch fails, until the scope closes or the schedule ends. */
export const open = Effect.fnUntraced(function*(
  backend: KvBackend,
  request: WatchRequest,
  resume: Resume
): Effect.fn.Return<Watcher, KvError, Scope.Scope> {
  const outer = yield* Effect.scope

  const connect = (startRevision: bigint | undefined): Effect.Effect<State & { readonly _tag: "Open" }, KvError> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(
        Scope.fork(outer),
        (scope) =>
          restore(Scope.provide(backend.watch({ ...request, startRevision }), scope)).pipe(
            Effect.onExit((exit) => Exit.isFailure(exit) ? Scope.close(scope, exit) : Effect.void),
            Effect.map((watcher) => ({ _tag: "Open" as const, watcher, scope }))
          )
      )
    )

  /**
   * The running schedule. It is started again after each delivery, so that an outage does not count against the next.
   */
  let step: ((error: KvError) => Effect.Effect<unknown, KvError>) | undefined

  const pause = Effect.fnUntraced(function*(error: KvError) {
    if (step === undefined) {
      const next = yield* Schedule.toStepWithSleep(resume)
      step = (error) => Effect.catch(next(error), () => Effect.fail(error))
    }
    yield* step(error)
  })

  const connectAgain = (
    error: KvError,
    startRevision: bigint | undefined
  ): Effect.Effect<State & { readonly _tag: "Open" }, KvError> =>
    isResumable(error)
      ? Effect.andThen(
        pause(error),
        Effect.catch(connect(startRevision), (again) => connectAgain(again, startRevision))
      )
      : Effect.fail(error)

  const first = yield* Effect.catch(
    connect(request.startRevision),
    (error) => connectAgain(error, request.startRevision)
  )
  let position = first.watcher.revision
  const state = yield* SubscriptionRef.make<State>(first)

  const fetch: Effect.Effect<NonEmptyReadonlyArray<Revision>, KvError> = Effect.suspend(() => {
    const now = SubscriptionRef.getUnsafe(state)
    if (now._tag === "Open") {
      return Effect.catch(now.watcher.take, (error) =>
        isResumable(error)
          ? Scope.close(now.scope, Exit.void).pipe(
            Effect.andThen(SubscriptionRef.set(state, { _tag: "Failed", error })),
            Effect.uninterruptible,
            Effect.andThen(fetch)
          )
          : Effect.fail(error))
    }
    // If a take is interrupted here, the next take opens the watch again.
    const again = Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(
        restore(connectAgain(now.error, position + 1n)),
        (open) => SubscriptionRef.set(state, open)
      )
    )
    return Effect.andThen(again, fetch)
  })

  return {
    revision: first.watcher.revision,
    take: watcherTake.filterMap(fetch, (revisions) => {
      position = revisions[revisions.length - 1]!.revision
      step = undefined
      return revisions
    }),
    status: SubscriptionRef.changes(state).pipe(
      Stream.switchMap((now) =>
        now._tag === "Open"
          ? now.watcher.status
          : Stream.succeed<Status>({ _tag: "Interrupted", message: now.error.message })
      )
    )
  }
})

/**
 * Whether the same watch may succeed later. It cannot if it was closed, if the history is gone or belongs to another
 * store, or if the request is invalid.
 */
const isResumable = (error: KvError): boolean =>
  error.isRetryable || error.reason._tag === "Unauthenticated" || error.reason._tag === "PermissionDenied"
