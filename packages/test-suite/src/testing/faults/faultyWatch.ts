/**
 * A watch whose connection can be cut. Like a backend's watch it resumes over a new connection, from the revision after the
 * last one it received. It fails with `Compacted` if the history is to be compacted meanwhile.
 */
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import type { Revision, Status, Watcher, WatchRequest } from "@effect-kv/core/Watch"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

/** A cut of a watch. */
export interface Cut {
  /** The message of its status. */
  readonly message: string
  /** Waited for before the watch is reconnected. */
  readonly until: Effect.Effect<void>
  /** Whether the history it missed is compacted by then. */
  readonly isCompacted: boolean
  /** The failure of the watch, instead of a reconnection. */
  readonly failure?: KvError.KvError | undefined
}

/** An open watch that can be cut. */
export interface FaultyWatch {
  readonly request: WatchRequest
  readonly watcher: Watcher
  /** Cuts the connection. Does nothing if it is already cut or the watch has ended. */
  readonly cut: (cut: Cut) => Effect.Effect<void>
}

type State =
  | { readonly _tag: "Connected"; readonly watcher: Watcher; readonly scope: Scope.Closeable }
  | { readonly _tag: "Cut"; readonly message: string }
  | { readonly _tag: "Ended"; readonly error: KvError.KvError }

/** Opens a watch through the faults of calls, perhaps in several attempts. */
type Through = (opening: Effect.Effect<Watcher, KvError.KvError>) => Effect.Effect<Watcher, KvError.KvError>

/**
 * Opens a watch until the scope closes. A reconnection waits for `reachable`. `onEvents` runs before received events are
 * delivered.
 */
export const open = Effect.fnUntraced(function*(
  backend: KvBackend,
  request: WatchRequest,
  through: Through,
  reachable: Effect.Effect<void>,
  onEvents: Effect.Effect<void>
): Effect.fn.Return<FaultyWatch, KvError.KvError, Scope.Scope> {
  const scope = yield* Effect.scope
  const first = yield* connect(backend, request, scope, through)
  const state = new Observable<State>(first)
  /** The revision up to which all events were received. */
  let position = first.watcher.revision
  /** Events that were received and not delivered yet: an interrupted take leaves them to the next one. */
  let held: NonEmptyReadonlyArray<Revision> | undefined
  /** Set if a cut with compaction ended before any event was missed: then the next event is the missing one. */
  let isNextMissing = false

  const end = (error: KvError.KvError) => state.become({ _tag: "Ended", error })

  const receive = (from: State & { readonly _tag: "Connected" }) =>
    Effect.match(from.watcher.take, {
      onSuccess: (batches) => {
        // Cut meanwhile: these events are lost, and delivered again over the next connection.
        if (state.now !== from) return
        const last = batches[batches.length - 1]!.revision
        if (isNextMissing) return end(compacted(last))
        held = batches
        position = last
      },
      // A cut connection is closed by the cut. Any other failure ends the watch.
      onFailure: (error) => {
        if (state.now === from) end(error)
      }
    })

  const deliver = Effect.sync(() => {
    const batches = held!
    held = undefined
    return batches
  })

  const take: Watcher["take"] = Effect.suspend(() => {
    if (held !== undefined) return Effect.andThen(onEvents, deliver)
    switch (state.now._tag) {
      case "Ended":
        return Effect.fail(state.now.error)
      case "Cut":
        return Effect.andThen(state.changed, take)
      case "Connected":
        return Effect.andThen(receive(state.now), take)
    }
  })

  const reconnect = Effect.fnUntraced(function*(cut: Cut) {
    yield* cut.until
    if (cut.failure !== undefined) return end(cut.failure)
    yield* reachable
    const revision = yield* revisionOf(backend, request)
    if (cut.isCompacted && revision > position) return end(compacted(revision))
    isNextMissing ||= cut.isCompacted
    const again = { ...request, startRevision: position + 1n }
    const connected = yield* connect(backend, again, scope, (opening) => opening)
    // The store may have become unreachable meanwhile. Its events arrive when it is reachable again.
    yield* reachable
    state.become(connected)
  })

  const cut = (cut: Cut): Effect.Effect<void> =>
    Effect.uninterruptible(Effect.suspend(() => {
      const now = state.now
      if (now._tag !== "Connected") return Effect.void
      state.become({ _tag: "Cut", message: cut.message })
      return Effect.asVoid(Effect.andThen(
        Scope.close(now.scope, Exit.void),
        reconnect(cut).pipe(
          Effect.retry({ while: (error) => error.isRetryable, schedule: Schedule.spaced("100 millis") }),
          Effect.catch((error) => Effect.sync(() => end(error))),
          Effect.interruptible,
          Effect.forkIn(scope)
        )
      ))
    }))

  // The last finalizer runs first: a pending take of a cut watch must also end.
  yield* Effect.addFinalizer(() => Effect.sync(() => state.now._tag === "Ended" || end(scopeClosed)))
  return { request, cut, watcher: { revision: first.watcher.revision, take, status: statusOf(state) } }
})

/** Connects in a child scope. Attempts that got no response are closed. */
const connect = (backend: KvBackend, request: WatchRequest, scope: Scope.Scope, through: Through) =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      let last = yield* Scope.fork(scope)
      const opening = Effect.gen(function*() {
        yield* Scope.close(last, Exit.void)
        last = yield* Scope.fork(scope)
        return yield* Scope.provide(backend.watch(request), last)
      })
      const watcher = yield* Effect.onError(
        restore(through(opening)),
        (cause) => Effect.suspend(() => Scope.close(last, Exit.failCause(cause)))
      )
      return { _tag: "Connected" as const, watcher, scope: last }
    })
  )

/** The revision of the store, read with the permissions that the watch needs. */
const revisionOf = (backend: KvBackend, { range }: WatchRequest): Effect.Effect<bigint, KvError.KvError> =>
  Effect.map(backend.execute(Op.range(range, { countOnly: true })), (response) => response.revision)

const compacted = (compactRevision: bigint): KvError.KvError =>
  KvError.make(new KvError.Compacted({ compactRevision: Option.some(compactRevision) }))

const scopeClosed = KvError.make(new KvError.Closed({ message: "the scope of the watch was closed" }))

/** A mutable value whose changes can be awaited and followed. */
class Observable<A> {
  now: A
  #signal = Latch.makeUnsafe()
  readonly #followers = new Set<(value: A) => void>()

  constructor(now: A) {
    this.now = now
  }

  become(value: A): void {
    this.now = value
    const signal = this.#signal
    this.#signal = Latch.makeUnsafe()
    signal.openUnsafe()
    for (const follower of this.#followers) follower(value)
  }

  /** Waits for the next change. */
  get changed(): Effect.Effect<void> {
    return this.#signal.await
  }

  /** The current value, then each change. */
  get changes(): Stream.Stream<A> {
    return Stream.callback<A>((queue) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          const follower = (value: A): void => void Queue.offerUnsafe(queue, value)
          follower(this.now)
          this.#followers.add(follower)
          return follower
        }),
        (follower) => Effect.sync(() => this.#followers.delete(follower))
      )
    )
  }
}

/** The status of the watch: that of its connection while it is connected. */
const statusOf = (state: Observable<State>): Stream.Stream<Status> =>
  state.changes.pipe(
    Stream.takeWhile((now) => now._tag !== "Ended"),
    Stream.switchMap((now) =>
      now._tag === "Connected"
        ? now.watcher.status
        : Stream.succeed<Status>({ _tag: "Interrupted", message: now._tag === "Cut" ? now.message : "it has ended" })
    )
  )
