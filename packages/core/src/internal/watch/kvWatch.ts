/**
 * The watch methods of `Kv`: streams and waits, made from a backend's watches.
 */
import * as Array from "effect/Array"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { execute, type KvBackend } from "../../backend/KvBackend.ts"
import { type Kv, type Subscription, SubscriptionTypeId, type WatchOptions } from "../../service/KvService.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import { InvalidRequest, type KvError, make as makeError } from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import {
  type Event,
  type Revision,
  revision as makeRevision,
  type Watcher,
  type WatchRequest
} from "../../values/Watch.ts"
import * as resuming from "./resumingWatch.ts"
import * as watchEnd from "./watchEnd.ts"
import * as watcherTake from "./watcherTake.ts"

type Watching = Pick<
  Kv,
  "watch" | "watchRevisions" | "subscribe" | "waitForChange" | "watchWith" | "snapshotAndWatch"
>

export const make = (backend: KvBackend): Watching => {
  const open = (range: KeyRange.KeyRange, options: WatchOptions | undefined) => {
    const request = toRequest(range, options)
    const opening = options?.resume === undefined
      ? backend.watch(request)
      : resuming.open(backend, request, options.resume)
    return Effect.map(opening, (watcher) => watchEnd.warned(request.range, watcher))
  }

  const subscribe: Kv["subscribe"] = (range, options) =>
    Effect.map(open(range, options), (watcher) => toSubscription(watcher, options))

  /** Logs a failed opening too: it is part of the stream, and the stream's failure may go unobserved. */
  const subscribeForStream: Kv["subscribe"] = (range, options) =>
    Effect.tapError(
      subscribe(range, options),
      (error) => watchEnd.warn(range, error)
    )

  const watch: Kv["watch"] = (range, options) =>
    Stream.unwrap(Effect.map(subscribeForStream(range, options), (subscription) => subscription.events))

  const watchRevisions: Kv["watchRevisions"] = (range, options) =>
    Stream.unwrap(Effect.map(subscribeForStream(range, options), (subscription) => subscription.revisions))

  const waitForChange: Kv["waitForChange"] = (key, options) =>
    Effect.scoped(Effect.flatMap(
      backend.watch(toRequest(KeyRange.key(key), options)),
      (watcher) => Effect.map(watcher.take, ([first]) => first.events[0])
    ))

  const watchWith: Kv["watchWith"] = Effect.fnUntraced(function*(range, f, options) {
    // A scope of its own, because the callback may end the watch long before the surrounding scope closes.
    const scope = yield* Effect.flatMap(Effect.scope, (outer) => Scope.fork(outer))
    const subscription = yield* Scope.provide(
      subscribe(range, options),
      scope
    ).pipe(Effect.onExit((exit) => Exit.isFailure(exit) ? Scope.close(scope, exit) : Effect.void))
    return yield* subscription.events.pipe(
      Stream.takeUntilEffect((event) => Effect.map(f(event), (result) => result === false)),
      Stream.runDrain,
      Effect.onExit((exit) => Scope.close(scope, exit)),
      Effect.forkScoped
    )
  })

  const snapshotAndWatch: Kv["snapshotAndWatch"] = Effect.fnUntraced(function*(range, options) {
    const scope = yield* Effect.flatMap(Effect.scope, (outer) => Scope.fork(outer))
    return yield* Effect.gen(function*() {
      // The watch is opened before the read, because a watch from now on is served faster than one from a past
      // revision.
      const watcher = yield* Scope.provide(open(range, options), scope)
      const snapshot = yield* execute(backend, Op.range(range))
      const later: Watcher = { ...watcher, revision: snapshot.revision, take: takeAfter(watcher, snapshot.revision) }
      return { ...toSubscription(later, options), revision: snapshot.revision, entries: snapshot.entries }
    }).pipe(Effect.onExit((exit) => Exit.isFailure(exit) ? Scope.close(scope, exit) : Effect.void))
  })

  return {
    subscribe,
    watch,
    watchRevisions,
    waitForChange,
    watchWith,
    snapshotAndWatch
  }
}

const toRequest = (range: KeyRange.KeyRange, options: WatchOptions | undefined): WatchRequest => ({
  range,
  startRevision: options?.startRevision,
  previous: options?.previous,
  // A watch that ends with a delete must receive the deletes, even if `only` excludes them.
  only: options?.untilDelete === true ? undefined : options?.only
})

/** Takes only revisions after this one: the snapshot already contains the earlier ones. */
const takeAfter = (watcher: Watcher, revision: bigint): Watcher["take"] =>
  watcherTake.filterMap(watcher.take, (revisions) => nonEmpty(revisions.filter((later) => later.revision > revision)))

const nonEmpty = (revisions: ReadonlyArray<Revision>): Array.NonEmptyReadonlyArray<Revision> | undefined =>
  Array.isReadonlyArrayNonEmpty(revisions) ? revisions : undefined

const toSubscription = (watcher: Watcher, options: WatchOptions | undefined): Subscription => {
  let isRun = false
  const once = <A>(pull: A): Effect.Effect<A, KvError> =>
    Effect.suspend(() => {
      if (isRun) return alreadyRun
      isRun = true
      return Effect.succeed(pull)
    })
  const take = options?.untilDelete === true ? takeUntilDelete(watcher, options.only) : watcher.take
  return {
    revision: watcher.revision,
    [SubscriptionTypeId]: watcher,
    events: Stream.fromPull(once(Effect.map(take, eventsOf))),
    revisions: Stream.fromPull(once(take)),
    status: watcher.status
  }
}

const alreadyRun = makeError(
  new InvalidRequest({
    message:
      "the events or revisions of this subscription were run before, and that run may have taken some of them: " +
      "subscribe again, with startRevision to resume after a revision"
  })
)

const eventsOf = (revisions: Array.NonEmptyReadonlyArray<Revision>): Array.NonEmptyReadonlyArray<Event> =>
  revisions.length === 1 ? revisions[0].events : Array.flatMap(revisions, ({ events }) => events)

/** Ends after the revision of the first delete. `only` is applied here, because the backend must deliver the delete. */
const takeUntilDelete = (
  watcher: Watcher,
  only: WatchOptions["only"]
): Effect.Effect<Array.NonEmptyReadonlyArray<Revision>, KvError | Cause.Done> =>
  watcherTake.filterMapUntil(watcher.take, (revisions) => {
    const last = revisions.findIndex(({ events }) => events.some((event) => event._tag === "Delete"))
    const upToLast = last < 0 ? revisions : revisions.slice(0, last + 1)
    return { value: nonEmpty(upToLast.flatMap((revision) => keepOnly(revision, only))), isLast: last >= 0 }
  })

const keepOnly = (revision: Revision, only: WatchOptions["only"]): ReadonlyArray<Revision> => {
  if (only === undefined) return [revision]
  const events = revision.events.filter((event) => event._tag === only)
  return Array.isArrayNonEmpty(events) ? [makeRevision(revision.revision, events)] : []
}
