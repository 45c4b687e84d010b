/**
 * The watches of a client, at the edge to Effect.
 */
import * as Check from "@effect-kv/core/Check"
import * as Deadline from "@effect-kv/core/Deadline"
import type * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import * as Watch from "@effect-kv/core/Watch"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { intervalOf } from "../bytes.ts"
import * as calls from "../calls.ts"
import { type Connection, watchClosed } from "../connection.ts"
import { encode } from "../encode.ts"
import { replaced } from "../identity.ts"
import { type Item, kind, nOf, positionOf } from "../items.ts"
import { realTimeSleep } from "../realTime.ts"
import { Feed } from "./feed.ts"
import { WatchState } from "./watchState.ts"

export interface Watches {
  /** Delivers changes to the watches. */
  readonly feed: Feed
  readonly open: (request: Watch.WatchRequest) => Effect.Effect<Watch.Watcher, KvError.KvError, Scope.Scope>
}

/** `onLease` is called when another client has been granted a lease. */
export const make = (
  to: Connection,
  run: (effect: Effect.Effect<void>) => Fiber.Fiber<void>,
  onLease: () => void
): Watches => {
  const feed = new Feed(to, run, onLease)
  to.onClose(() => {
    for (const watch of feed.watches) {
      feed.remove(watch)
      watch.end(watchClosed)
    }
    feed.stop()
  })
  to.identity.onReplaced((message) => {
    for (const watch of feed.watches) {
      feed.remove(watch)
      watch.end(replaced(message, "NotApplied"))
    }
    feed.stop()
  })
  const close = (watch: WatchState) =>
    Effect.sync(() => {
      feed.remove(watch)
      watch.end(watchClosed)
    })
  return {
    feed,
    open: (request) =>
      Effect.suspend(() => {
        const problem = Check.watch(request)
        if (problem !== undefined) return Check.orFail(problem)
        const tooLarge = encode(Op.range(request.range))
        return "reason" in tooLarge ? Effect.fail(tooLarge) : Effect.void
      }).pipe(
        Effect.andThen(
          // Only the read can be interrupted: a watch that was added to the feed must be closed.
          Effect.uninterruptibleMask((restore) =>
            Effect.acquireRelease(
              Effect.suspend(() => {
                const watch = following(to, feed, request)
                return watch !== undefined ? Effect.succeed(watch) : Effect.map(
                  restore(page(to, request, request.startRevision, true)),
                  (items) => reading(to, feed, request, items)
                )
              }),
              close
            )
          )
        ),
        Effect.map((watch): Watch.Watcher => ({
          revision: watch.revision,
          take: take(to, feed, watch),
          status: status(watch)
        }))
      )
  }
}

/**
 * Opens a watch without a statement, like one from the revision after a write of this client: its start is after all that
 * the client has seen, and the feed delivers every event from there on. If the client has seen the start, the history may be
 * compacted up to there, which the store reports.
 */
const following = (to: Connection, feed: Feed, request: Watch.WatchRequest): WatchState | undefined => {
  const { startRevision } = request
  if (startRevision === undefined || startRevision <= to.identity.sent.revision || !to.isOpen) return undefined
  const watch = new WatchState(request, startRevision - 1n)
  if (!feed.isBefore(watch)) return undefined
  watch.follow()
  feed.add(watch)
  return watch
}

/** Opens a watch with the first page of the log. */
const reading = (
  to: Connection,
  feed: Feed,
  request: Watch.WatchRequest,
  items: ReadonlyArray<Item>
): WatchState => {
  const revision = request.startRevision === undefined
    ? nOf(items[items.length - 1]!)
    : request.startRevision - 1n
  const watch = new WatchState(request, revision)
  watch.prime(items, feed.position)
  if (!to.isOpen) watch.end(watchClosed)
  else if (watch.ended === undefined) feed.add(watch)
  return watch
}

const take = (
  to: Connection,
  feed: Feed,
  watch: WatchState
): Effect.Effect<NonEmptyReadonlyArray<Watch.Revision>, KvError.KvError> => {
  const untilUnread = waitFor((signal) => watch.onUnread(signal))
  // A fiber can be interrupted between a step that takes revisions and the one that returns them. They are held until
  // the step that does both.
  let held: NonEmptyReadonlyArray<Watch.Revision> | undefined
  const handOver = Effect.sync(() => {
    const taken = held!
    held = undefined
    return taken
  })
  const self: Effect.Effect<NonEmptyReadonlyArray<Watch.Revision>, KvError.KvError> = Effect.suspend(() => {
    if (watch.ended !== undefined) return Effect.fail(watch.ended)
    held ??= watch.takeBuffered()
    if (held !== undefined) return handOver
    const since = watch.unread
    if (since === undefined) return Effect.andThen(untilUnread, self)
    const { position } = feed
    return Effect.flatMap(laterPage(to, watch, since), (items) => {
      if (items === undefined) return Effect.andThen(realTimeSleep(200), self)
      const shown = positionOf(items)
      if (shown !== undefined) feed.compare(position, shown.revision)
      if (watch.ended === undefined) held = watch.read(items, feed.position)
      return self
    })
  })
  return self
}

const page = (to: Connection, request: Watch.WatchRequest, since: bigint | undefined, isOpening: boolean) =>
  Effect.map(
    to.read(
      calls.changes(to, {
        since,
        isOpening,
        interval: intervalOf(request.range),
        only: request.only === undefined ? undefined : request.only === "Put" ? kind.put : kind.delete,
        previous: request.previous === true
      }),
      calls.positionIn
    ),
    calls.itemsOf
  )

/** A page of the log; `undefined` if it could not be read. A watch survives every transient failure of a read. */
const laterPage = (to: Connection, watch: WatchState, since: bigint) =>
  Effect.catchIf(
    Deadline.within(page(to, watch.request, since, false), to.backgroundDeadline),
    (error) => ["Unavailable", "DeadlineExceeded", "Closed"].includes(error.reason._tag),
    () => Effect.undefined
  )

const status = (watch: WatchState): Stream.Stream<Watch.Status> => {
  const next = (seen: Watch.Status | undefined): Effect.Effect<Watch.Status | undefined> =>
    Effect.suspend(() => {
      if (watch.ended !== undefined) return Effect.undefined
      const now: Watch.Status = watch.interruption === undefined
        ? Watch.live(watch.revision)
        : { _tag: "Interrupted", message: watch.interruption }
      return seen !== undefined && seen._tag === now._tag
        ? Effect.andThen(waitFor((signal) => watch.onStatus(signal)), next(seen))
        : Effect.succeed(now)
    })
  return Stream.unfold(
    undefined as Watch.Status | undefined,
    (seen) => Effect.map(next(seen), (now) => now === undefined ? undefined : [now, now] as const)
  )
}

/** Waits for a signal. The fiber resumes in a later task, because the signal is called while a watch changes. */
const waitFor = (register: (signal: () => void) => () => void): Effect.Effect<void> =>
  Effect.withFiber((fiber) =>
    Effect.callback<void>((resume) => {
      const cancel = register(() => fiber.currentDispatcher.scheduleTask(() => resume(Effect.void), 0))
      return Effect.sync(cancel)
    })
  )
