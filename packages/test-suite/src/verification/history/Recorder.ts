/**
 * A recorder of the requests and responses of clients, which makes a `History`.
 *
 * `recorder.client(name)` is a function from backend to backend: wrap the backend of the client with it. All moments of one
 * recorder are totally ordered, even if the clock shows the same time. A recorder belongs to one process.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as DistRwLock from "@effect-kv/core/DistRwLock"
import type * as DistSemaphore from "@effect-kv/core/DistSemaphore"
import * as Election from "@effect-kv/core/Election"
import type { Kv } from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import type * as History from "./History.ts"
import * as plain from "./plain.ts"

/**
 * A lock that a client holds.
 *
 * @since 0.1.0
 */
export interface Held {
  readonly name: string
  readonly token: bigint
  /** How it is shared with other holders. Default: not at all. */
  readonly share?: History.Share | undefined
}

/**
 * The open record of a holding. Its first end counts.
 *
 * @since 0.1.0
 */
export interface OpenHolding {
  /** Call this when the holder stops using the lock, before the release. */
  readonly released: Effect.Effect<void>
  /** Call this when the holder learns of the loss. */
  readonly lost: Effect.Effect<void>
}

/**
 * Records the history of any number of clients.
 *
 * @since 0.1.0
 */
export interface Recorder {
  /** Records all calls and watches of a backend, under the name of the client. */
  readonly client: (name: string) => (backend: KvBackend) => KvBackend
  /** A unique value, by which a checker recognises the write. */
  readonly value: (client: string) => Effect.Effect<string>
  /** Records that the client holds a lock from now on. */
  readonly acquired: (client: string, lock: Held) => Effect.Effect<OpenHolding>
  /** `DistLock.use`, with the holding of each lock recorded. */
  readonly withLock: <const Names extends DistLock.LockNames, A, E, R>(
    client: string,
    names: Names,
    use: (lock: DistLock.LockOf<Names>) => Effect.Effect<A, E, R>,
    options?: DistLock.Options
  ) => Effect.Effect<A, E | DistLock.LockFailure, R | Kv>
  /** `Election.use`, with the leadership recorded as the holding of a lock of that name. */
  readonly withLeadership: <A, E, R>(
    client: string,
    name: string,
    use: (leadership: Election.Leadership) => Effect.Effect<A, E, R>,
    options?: Election.Options
  ) => Effect.Effect<A, E | Election.Failure, R | Kv>
  /** `DistSemaphore.use`, with the permits recorded as the holding of a lock of the semaphore's name. */
  readonly withPermits: <A, E, R>(
    client: string,
    semaphore: DistSemaphore.DistSemaphore,
    permits: number,
    use: (lock: DistLock.Lock) => Effect.Effect<A, E, R>,
    options?: DistLock.Options
  ) => Effect.Effect<A, E | DistSemaphore.Failure, R>
  /** `DistRwLock.use`, with the holding of each lock recorded. */
  readonly withRwLocks: <A, E, R>(
    client: string,
    locks: DistRwLock.LockSet,
    use: (lock: DistLock.MultiLock) => Effect.Effect<A, E, R>,
    options?: DistLock.Options
  ) => Effect.Effect<A, E | DistLock.LockFailure, R | Kv>
  /**
   * Records an effect on a resource that the lock fences. It is accepted if it succeeds, and rejected if it fails with
   * a `KvError` whose outcome is `NotApplied`, as a fenced write does after a loss. Otherwise it is unknown. If the
   * result has a `revision`, that is recorded too.
   */
  readonly fenced: (
    client: string,
    lock: Held,
    resource: string
  ) => <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** The history so far. Calls in flight are pending in it, and open watches and holdings have no end. */
  readonly history: Effect.Effect<History.History>
}

/**
 * Makes a recorder. It needs no finalizer.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { MemoryStore } from "@effect-kv/memory"
 * import { Recorder } from "@effect-kv/test-suite/verification"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* MemoryStore.make()
 *   const recorder = yield* Recorder.make
 *   const kv = yield* Effect.flatMap(store.connect, (backend) => Kv.make(recorder.client("a")(backend)))
 *   yield* kv.put("limit", yield* recorder.value("a"))
 *   const { calls } = yield* recorder.history
 *   const clients = calls.map((call) => call.client) // => ["a"]
 * })
 * ```
 *
 * @since 0.1.0
 */
export const make: Effect.Effect<Recorder> = Effect.sync(() => {
  const records = new Records()
  return {
    client: (name) => (backend) => recording(records, name, backend),
    value: (client) => Effect.sync(() => `${client}#${records.nextValue++}`),
    acquired: (client, lock) => acquired(records, client, lock),
    withLock: (client, names, use, options) =>
      DistLock.use(names, (lock) => whileHolding(records, client, lock, use(lock)), options),
    withLeadership: (client, name, use, options) =>
      Election.use(
        name,
        (leadership) => whileHolding(records, client, leadership.lock, use(leadership)),
        options
      ),
    withPermits: (client, semaphore, permits, use, options) =>
      semaphore.use(
        permits,
        (lock) => whileHolding(records, client, lock, use(lock), () => ({ _tag: "Permits", permits })),
        options
      ),
    withRwLocks: (client, locks, use, options) =>
      DistRwLock.use(
        locks,
        (lock) =>
          whileHolding(records, client, lock, use(lock), (name) => ({
            _tag: locks.write?.includes(name) === true ? "Write" : "Read"
          })),
        options
      ),
    fenced: (client, lock, resource) => (effect) => fenced(records, client, lock, resource, effect),
    history: Effect.sync(() => records.snapshot())
  }
})

type Mutable<A> = { -readonly [K in keyof A]: A[K] }

/** A record of a watch that is still open. */
type OpenWatch = Mutable<Omit<History.WatchCall, "batches">> & { readonly batches: Array<History.Batch> }

class Records {
  #order = 0
  #nextId = 0
  nextValue = 0
  readonly #calls: Array<Mutable<History.Call>> = []
  readonly #watches: Array<OpenWatch> = []
  readonly #holdings: Array<Mutable<History.Holding>> = []
  readonly #effects: Array<Mutable<History.FencedEffect>> = []

  now(clock: Clock.Clock): History.Moment {
    return { order: this.#order++, nanos: clock.monotonicTimeNanosUnsafe() }
  }

  call(clock: Clock.Clock, client: string, request: History.Request): Mutable<History.Call> {
    const call: Mutable<History.Call> = {
      _tag: "Call",
      id: this.#nextId++,
      client,
      request,
      invoked: this.now(clock),
      outcome: { _tag: "Pending" }
    }
    this.#calls.push(call)
    return call
  }

  watch(clock: Clock.Clock, client: string, request: History.WatchCall["request"]): OpenWatch {
    const watch: OpenWatch = {
      _tag: "Watch",
      id: this.#nextId++,
      client,
      request,
      invoked: this.now(clock),
      batches: []
    }
    this.#watches.push(watch)
    return watch
  }

  holding(clock: Clock.Clock, client: string, lock: Held): Mutable<History.Holding> {
    const holding: Mutable<History.Holding> = {
      _tag: "Holding",
      id: this.#nextId++,
      client,
      lock: lock.name,
      token: lock.token,
      ...(lock.share === undefined ? {} : { share: lock.share }),
      acquired: this.now(clock)
    }
    this.#holdings.push(holding)
    return holding
  }

  effect(clock: Clock.Clock, client: string, lock: Held, resource: string): Mutable<History.FencedEffect> {
    const effect: Mutable<History.FencedEffect> = {
      _tag: "Effect",
      id: this.#nextId++,
      client,
      lock: lock.name,
      token: lock.token,
      resource,
      invoked: this.now(clock),
      outcome: "Unknown"
    }
    this.#effects.push(effect)
    return effect
  }

  snapshot(): History.History {
    return {
      calls: this.#calls.map((call) => ({ ...call })),
      watches: this.#watches.map((watch) => ({ ...watch, batches: [...watch.batches] })),
      holdings: this.#holdings.map((holding) => ({ ...holding })),
      effects: this.#effects.map((effect) => ({ ...effect }))
    }
  }
}

// -----------------------------------------------------------------------------
// calls
// -----------------------------------------------------------------------------

const recording = (records: Records, client: string, backend: KvBackend): KvBackend => {
  const through = <A>(
    request: History.Request,
    effect: Effect.Effect<A, KvError.KvError>,
    toResponse: (value: A) => History.Response
  ): Effect.Effect<A, KvError.KvError> =>
    Clock.clockWith((clock) => {
      // Recorded inside the effect: after an interruption before the start there was no call.
      let call: Mutable<History.Call> | undefined
      const begun = Effect.suspend(() => {
        call = records.call(clock, client, request)
        return effect
      })
      return Effect.onExit(begun, (exit) =>
        Effect.sync(() => {
          if (call === undefined) return
          call.completed = records.now(clock)
          call.outcome = Exit.isSuccess(exit)
            ? { _tag: "Responded", response: toResponse(exit.value) }
            : plain.failed(exit.cause)
        }))
    })
  return {
    execute: (op) => through({ _tag: "Execute", op: plain.op(op) }, backend.execute(op), plain.response),
    watch: (request) => watch(records, client, request, backend),
    leaseGrant: (options) =>
      through(
        {
          _tag: "LeaseGrant",
          ttlMillis: Duration.toMillis(Duration.fromInputUnsafe(options.ttl)),
          ...(options.id === undefined ? {} : { id: options.id })
        },
        backend.leaseGrant(options),
        plain.lease
      ),
    leaseKeepAlive: (id) => through({ _tag: "LeaseKeepAlive", id }, backend.leaseKeepAlive(id), plain.lease),
    leaseRevoke: (id) =>
      through({ _tag: "LeaseRevoke", id }, backend.leaseRevoke(id), () => ({ _tag: "LeaseRevoked" })),
    leaseTimeToLive: (id, options) =>
      through(
        { _tag: "LeaseTimeToLive", id, keys: options?.keys === true },
        backend.leaseTimeToLive(id, options),
        plain.leaseStatus
      )
  }
}

const watch = Effect.fnUntraced(function*(
  records: Records,
  client: string,
  request: History.WatchCall["request"],
  backend: KvBackend
) {
  const clock = yield* Clock.Clock
  const record = records.watch(clock, client, plain.watchRequest(request))
  const end = (how: NonNullable<History.WatchCall["ended"]>["how"]) =>
    Effect.sync(() => {
      record.ended ??= { at: records.now(clock), how }
    })
  const endFailed = (cause: Cause.Cause<KvError.KvError>) => end(plain.watchFailed(cause))
  yield* Effect.addFinalizer(() => end({ _tag: "Closed" }))
  const watcher = yield* Effect.onExit(
    backend.watch(request),
    (exit) =>
      Exit.isSuccess(exit)
        ? Effect.sync(() => {
          record.confirmed = { at: records.now(clock), revision: exit.value.revision }
        })
        : endFailed(exit.cause)
  )
  return {
    ...watcher,
    // An interrupted `take` has taken nothing, and the watch continues.
    take: Effect.onExit(watcher.take, (exit) =>
      Exit.isSuccess(exit)
        ? Effect.sync(() => {
          for (const batch of exit.value) record.batches.push(plain.batch(batch, records.now(clock)))
        })
        : Cause.hasInterruptsOnly(exit.cause)
        ? Effect.void
        : endFailed(exit.cause))
  }
})

// -----------------------------------------------------------------------------
// locks
// -----------------------------------------------------------------------------

const acquired = (records: Records, client: string, lock: Held): Effect.Effect<OpenHolding> =>
  Clock.clockWith((clock) =>
    Effect.sync(() => {
      const holding = records.holding(clock, client, lock)
      const ended = (how: "Released" | "Lost") =>
        Effect.sync(() => {
          holding.ended ??= { at: records.now(clock), how }
        })
      return { released: ended("Released"), lost: ended("Lost") }
    })
  )

/** Records a loss when it is noticed, before the effect is interrupted and its finalizers run. */
const whileHolding = <A, E, R>(
  records: Records,
  client: string,
  lock: DistLock.MultiLock,
  effect: Effect.Effect<A, E, R>,
  shareOf: (name: string) => History.Share | undefined = () => undefined
): Effect.Effect<A, E, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.scopedWith(Effect.fnUntraced(function*(scope: Scope.Scope) {
      const holdings = yield* Effect.forEach(
        lock.parts,
        ({ name, token }) => acquired(records, client, { name, token, share: shareOf(name) })
      )
      const each = (which: keyof OpenHolding) =>
        Effect.forEach(holdings, (holding) => holding[which], { discard: true })
      yield* Effect.forkIn(Effect.catch(lock.lost, () => each("lost")), scope, { startImmediately: true })
      return yield* Effect.onExit(
        restore(effect),
        () => Effect.flatMap(lock.isHeld, (held) => each(held ? "released" : "lost"))
      )
    }))
  )

const fenced = <A, E, R>(
  records: Records,
  client: string,
  lock: Held,
  resource: string,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Clock.clockWith((clock) => {
    const record = records.effect(clock, client, lock, resource)
    return Effect.onExit(effect, (exit) =>
      Effect.sync(() => {
        record.completed = records.now(clock)
        record.outcome = Exit.isSuccess(exit) ? "Accepted" : isRejection(exit.cause) ? "Rejected" : "Unknown"
        const revision = Exit.isSuccess(exit) ? revisionOf(exit.value) : undefined
        if (revision !== undefined) record.revision = revision
      }))
  })

/** A plain `LockLost`, outside of a `KvError`, says nothing about effects before or meanwhile. */
const isRejection = (cause: Cause.Cause<unknown>): boolean =>
  cause.reasons.every((reason) =>
    reason._tag === "Fail" && KvError.isKvError(reason.error) && reason.error.outcome === "NotApplied"
  )

const revisionOf = (value: unknown): bigint | undefined =>
  typeof value === "object" && value !== null && "revision" in value && typeof value.revision === "bigint"
    ? value.revision
    : undefined
