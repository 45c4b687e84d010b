/**
 * The implementation of `RangeView`: a watch, then a read, and both again if the watch fails because history was
 * compacted.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { execute, type KvBackend } from "../../backend/KvBackend.ts"
import type { Entry } from "../../values/Entry.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import { Closed, type KvError, make as makeError } from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import type * as Watch from "../../values/Watch.ts"
import * as spans from "../tracing/spans.ts"
import * as watchEnd from "../watch/watchEnd.ts"
import * as catchUp from "./catchUp.ts"
import type { RangeView, Snapshot } from "./model.ts"

/** A snapshot, and since when it may miss changes. */
export interface State {
  readonly snapshot: Snapshot
  readonly staleSince: Option.Option<DateTime.Utc>
}

export interface OpenView extends RangeView {
  /** The state now, then one after each change of the snapshot or of its staleness. A slow reader skips to the newest. */
  readonly states: Stream.Stream<State, KvError>
  readonly state: Effect.Effect<State, KvError>
}

/** What a view keeps of an entry. */
export type Keep = (entry: Entry) => Entry

/** Opens a view of the range. It is current when this returns, and is kept current until the scope closes. */
export const open = (
  backend: KvBackend,
  range: KeyRange.KeyRange
): Effect.Effect<OpenView, KvError, Scope.Scope> => openWith(load, backend, range)

/**
 * As {@link open}, but waits while the store cannot be reached. With `keep`, the range is read page by page, and may be
 * large.
 */
export const openPatiently = (
  backend: KvBackend,
  range: KeyRange.KeyRange,
  keep?: Keep
): Effect.Effect<OpenView, KvError, Scope.Scope> => openWith(reload, backend, range, keep)

const openWith = Effect.fnUntraced(function*(
  loadFirst: typeof load,
  backend: KvBackend,
  range: KeyRange.KeyRange,
  keep?: Keep
): Effect.fn.Return<OpenView, KvError, Scope.Scope> {
  const outer = yield* Effect.scope
  const first = yield* loadFirst(backend, range, outer, keep)
  let view: MutableView = first.view
  let staleSince = Option.none<DateTime.Utc>()
  /** The state of the store that the view must reach to be current again. */
  let target: catchUp.Target | undefined
  // Signals that the view has changed, or why it is no longer kept current. Readers then read `view` itself.
  const signal = yield* SubscriptionRef.make<Exit.Exit<void, KvError>>(Exit.void)

  const changed = SubscriptionRef.set(signal, Exit.void)

  const becomeStale = Effect.flatMap(DateTime.now, (now) => {
    target = undefined
    if (Option.isSome(staleSince)) return Effect.void
    staleSince = Option.some(now)
    return changed
  })

  /** Whether this ended the staleness. */
  const becomeCurrentIfCaughtUp = (): boolean => {
    if (target === undefined || !catchUp.isReached(view, target)) return false
    target = undefined
    staleSince = Option.none()
    return true
  }

  const follow = (loaded: Loaded): Effect.Effect<never, KvError> =>
    Effect.forever(Effect.flatMap(loaded.watcher.take, (revisions) => {
      const isChanged = apply(loaded.view, revisions, keep)
      return becomeCurrentIfCaughtUp() || isChanged ? changed : Effect.void
    }))

  /** A reconnected watch delivers what it missed later. So the view is stale until it has reached the store's state. */
  const followStatus = (loaded: Loaded): Effect.Effect<void> =>
    loaded.watcher.status.pipe(
      Stream.switchMap((status) =>
        Stream.fromEffectDrain(
          status._tag === "Interrupted" ? becomeStale : Effect.suspend(() => {
            if (Option.isNone(staleSince)) return Effect.void
            return Effect.flatMap(catchUp.targetOf(backend, range), (found) => {
              target = found
              return becomeCurrentIfCaughtUp() ? changed : Effect.void
            })
          })
        )
      ),
      Stream.runDrain
    )

  const keepCurrent = Effect.fnUntraced(function*(): Effect.fn.Return<never, KvError> {
    let loaded = first
    while (true) {
      const error = yield* Effect.flip(
        Effect.raceFirst(follow(loaded), Effect.andThen(followStatus(loaded), Effect.never))
      ).pipe(Effect.ensuring(Scope.close(loaded.scope, Exit.void)))
      if (!mustReload(error)) return yield* error
      yield* becomeStale
      loaded = yield* reload(backend, range, outer, keep)
      view = loaded.view
      staleSince = Option.none()
      yield* changed
    }
  })

  const fail = (error: KvError) =>
    SubscriptionRef.update(signal, (exit) => Exit.isFailure(exit) ? exit : Exit.fail(error))

  // Added before the fiber that keeps the view current is forked, so it runs after that fiber has ended.
  yield* Effect.addFinalizer(() => fail(closed))
  // The view is kept current in the background, long after the span in which it was opened has ended.
  yield* Effect.forkScoped(
    Effect.catch(spans.without(keepCurrent()), (error) => Effect.andThen(watchEnd.warn(range, error), fail(error)))
  )
  const stateNow = (): State => ({ snapshot: snapshotOf(view), staleSince })
  const current = Effect.flatMap(SubscriptionRef.get(signal), (exit) => Effect.map(exit, () => view))
  /** What `f` returns now, then after each change. */
  const following = <A>(f: () => A): Stream.Stream<A, KvError> =>
    SubscriptionRef.changes(signal).pipe(
      Stream.buffer({ capacity: 1, strategy: "sliding" }),
      Stream.mapEffect((exit) => Effect.map(exit, f))
    )
  const states = following(stateNow)
  // Without the signals at which only the staleness changed.
  const changes = Stream.changesWith(following(() => snapshotOf(view)), (a, b) => a === b)
  return {
    states,
    state: Effect.map(current, stateNow),
    staleSince: Stream.changesWith(following(() => staleSince), (a, b) => a === b),
    get: (key) => Effect.map(current, ({ entries }) => Option.fromUndefinedOr(entries.get(key))),
    snapshot: Effect.map(current, snapshotOf),
    changes,
    changesAfter: (revision) => Stream.dropWhile(changes, (snapshot) => snapshot.revision === revision),
    waitUntil: (predicate) =>
      changes.pipe(
        Stream.filter(predicate),
        Stream.runHead,
        // `changes` never ends without a failure.
        Effect.flatMap(Option.match({ onNone: () => Effect.fail(closed), onSome: Effect.succeed }))
      )
  }
})

const closed = makeError(new Closed({ message: "the scope of the view was closed" }))

/** The current entries. Events change them in place; a snapshot copies them, at most once per change. */
export interface MutableView {
  revision: bigint
  readonly entries: Map<string, Entry>
  copy: Snapshot | undefined
}

const snapshotOf = (view: MutableView): Snapshot => view.copy ??= new SnapshotOf(view)

/** A class because of `toJSON`: JSON has neither bigints nor maps. */
class SnapshotOf implements Snapshot {
  readonly revision: bigint
  readonly entries: ReadonlyMap<string, Entry>

  constructor(view: MutableView) {
    this.revision = view.revision
    this.entries = new Map(view.entries)
  }

  toJSON(): unknown {
    return { revision: `${this.revision}`, entries: [...this.entries.values()] }
  }
}

/** Applies the revisions that are newer than the view; true if there were any. */
export const apply = (view: MutableView, revisions: ReadonlyArray<Watch.Revision>, keep?: Keep): boolean => {
  const before = view.revision
  for (const { events, revision } of revisions) {
    if (revision <= view.revision) continue
    for (const event of events) {
      if (event._tag === "Put") view.entries.set(event.key, keep === undefined ? event.entry : keep(event.entry))
      else view.entries.delete(event.key)
    }
    view.revision = revision
    view.copy = undefined
  }
  return view.revision !== before
}

export interface Loaded {
  readonly scope: Scope.Closeable
  readonly watcher: Watch.Watcher
  readonly view: MutableView
}

/** Opens the watch first, then reads, so no change is missed. `apply` skips events that the read already contains. */
export const load = Effect.fnUntraced(function*(
  backend: KvBackend,
  range: KeyRange.KeyRange,
  outer: Scope.Scope,
  keep?: Keep
): Effect.fn.Return<Loaded, KvError> {
  const scope = yield* Scope.fork(outer)
  return yield* Effect.gen(function*() {
    const watcher = yield* Scope.provide(backend.watch({ range }), scope)
    const { entries, revision } = yield* keep === undefined ? read(backend, range) : readPages(backend, range, keep)
    return { scope, watcher, view: { revision, entries, copy: undefined } }
  }).pipe(Effect.onExit((exit) => Exit.isFailure(exit) ? Scope.close(scope, exit) : Effect.void))
})

interface Contents {
  readonly revision: bigint
  readonly entries: Map<string, Entry>
}

const read = (backend: KvBackend, range: KeyRange.KeyRange): Effect.Effect<Contents, KvError> =>
  Effect.map(execute(backend, Op.range(range)), ({ entries, revision }) => ({
    revision,
    entries: new Map(entries.map((entry) => [entry.key, entry]))
  }))

/** Entries of one page. Their values are in memory at the same time. */
const pageSize = 256

/** Reads the range page by page, all at one revision. Starts again if that revision is compacted meanwhile. */
export const readPages = (
  backend: KvBackend,
  range: KeyRange.KeyRange,
  keep: Keep
): Effect.Effect<Contents, KvError> =>
  Effect.retry(
    Effect.gen(function*() {
      const entries = new Map<string, Entry>()
      let revision: bigint | undefined
      let next: KeyRange.KeyRange | undefined = range
      while (next !== undefined) {
        const page: Op.RangeResponse = yield* execute(backend, Op.range(next, { limit: pageSize, revision }))
        revision ??= page.revision
        for (const entry of page.entries) entries.set(entry.key, keep(entry))
        const last = page.entries.at(-1)
        next = page.more && last !== undefined ? KeyRange.after(next, last.key) : undefined
      }
      return { revision: revision ?? 0n, entries }
    }),
    { while: mustReload, times: 10 }
  )

/** Loads again, and repeats that while the store cannot be reached. */
export const reload = (
  backend: KvBackend,
  range: KeyRange.KeyRange,
  outer: Scope.Scope,
  keep?: Keep
): Effect.Effect<Loaded, KvError> =>
  Effect.catch(load(backend, range, outer, keep), (error) =>
    error.isRetryable || mustReload(error)
      ? Effect.delay(reload(backend, range, outer, keep), "200 millis")
      : Effect.fail(error))

/** Whether the watch cannot resume from its position, but the range can be read again. */
export const mustReload = ({ reason }: KvError): boolean =>
  reason._tag === "Compacted" || reason._tag === "StoreReplaced"
