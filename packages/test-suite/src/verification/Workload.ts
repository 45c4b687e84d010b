/**
 * Random workload: clients that use every kind of operation, to record a history of a store or of a connection to it.
 *
 * They use registers, conditional writes, transactions over several keys, appended lists, ranges, past revisions,
 * leases, watches, and locks with a counter that is fenced by them. Each value is written once. Operations are chosen
 * by Effect's `Random`, so a seed (`Random.withSeed`) repeats them as far as the store is deterministic.
 */
import * as Compare from "@effect-kv/core/Compare"
import type * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import type { KvError } from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import * as History from "./history/History.ts"
import type * as Recorder from "./history/Recorder.ts"

/**
 * Options of a workload.
 *
 * @since 0.1.0
 */
export interface Options {
  /** How many operations each client makes. */
  readonly operations: number
  /** How many keys the clients share. Default: 4. */
  readonly keys?: number | undefined
  /** The prefix of all keys. Default: `w/`. */
  readonly prefix?: string | undefined
  /** Whether clients use locks too. Default: true. */
  readonly locks?: boolean | undefined
  /** How many of a hundred operations are interrupted before they end. Default: 0. */
  readonly interrupted?: number | undefined
  /** The names of the clients, before their number. Default: `client `. */
  readonly name?: string | undefined
}

/**
 * The key of the counter, without the prefix: the resource whose increments are recorded as fenced effects.
 *
 * @since 0.1.0
 */
export const counter = "counter"

const defaultPrefix = "w/"

/**
 * The name of the lock that fences the counter, without the prefix.
 *
 * @since 0.1.0
 */
export const lock = "lock"

/**
 * Runs a client for each backend, all at the same time, until each has made its operations.
 *
 * @example
 * ```ts
 * import { MemoryStore } from "@effect-kv/memory"
 * import { LinearizabilityChecker, Recorder, Workload } from "@effect-kv/test-suite/verification"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* MemoryStore.make()
 *   const recorder = yield* Recorder.make
 *   yield* Workload.run(recorder, [yield* store.connect, yield* store.connect], { operations: 10 })
 *   LinearizabilityChecker.check(yield* recorder.history) // => []
 * })
 * ```
 *
 * @since 0.1.0
 */
export const run = Effect.fnUntraced(function*(
  recorder: Recorder.Recorder,
  backends: ReadonlyArray<KvBackend>,
  options: Options
): Effect.fn.Return<void, never, Scope.Scope> {
  const clients = yield* Effect.forEach(backends, (backend, i) => {
    const name = `${options.name ?? "client "}${i}`
    return Effect.map(Kv.make(recorder.client(name)(backend)), (kv) => new Client(recorder, name, kv, options))
  })
  yield* Effect.forEach(clients, (client) => client.run, { concurrency: "unbounded", discard: true })
})

/**
 * A watch that is read in the background.
 *
 * @since 0.1.0
 */
export interface Reading {
  /** Waits until the watch has been read up to a revision at which something it watches changed. */
  readonly upTo: (revision: bigint) => Effect.Effect<void>
}

/**
 * Watches every key that the clients write, and reads until the scope closes.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { MemoryStore } from "@effect-kv/memory"
 * import { Recorder, Workload } from "@effect-kv/test-suite/verification"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* MemoryStore.make()
 *   const recorder = yield* Recorder.make
 *   const reading = yield* Workload.watch(recorder.client("watcher")(yield* store.connect), "app/")
 *   const kv = yield* Effect.flatMap(store.connect, Kv.make)
 *   const { revision } = yield* kv.put("app/limit", "10")
 *   yield* reading.upTo(revision)
 *   const { watches } = yield* recorder.history
 *   watches[0]?.batches.length // => 1
 * })
 * ```
 *
 * @since 0.1.0
 */
export const watch = Effect.fnUntraced(function*(
  backend: KvBackend,
  prefix: string = defaultPrefix
): Effect.fn.Return<Reading, KvError, Scope.Scope> {
  const watcher = yield* backend.watch({ range: KeyRange.prefix(prefix), previous: true })
  const waiting = new Set<{ readonly revision: bigint; readonly done: Deferred.Deferred<void> }>()
  let read = watcher.revision
  const take = Effect.map(watcher.take, (batches) => {
    read = batches.at(-1)!.revision
    for (const each of waiting) {
      if (each.revision <= read) Deferred.doneUnsafe(each.done, Exit.void)
    }
  })
  yield* Effect.forkScoped(Effect.ignore(Effect.forever(take)))
  return {
    upTo: (revision) =>
      Effect.suspend(() => {
        if (revision <= read) return Effect.void
        const each = { revision, done: Deferred.makeUnsafe<void>() }
        waiting.add(each)
        return Effect.ensuring(Deferred.await(each.done), Effect.sync(() => waiting.delete(each)))
      })
  }
})

/**
 * The result of a workload.
 *
 * @since 0.1.0
 */
export interface Finished {
  /** The recorded history. */
  readonly history: History.History
  /** The revision of the last write of the history; all watches were read up to it. */
  readonly revision: bigint
  /** How many times the counter was incremented. */
  readonly count: number
}

/**
 * Ends a workload when all its clients are done and the store is healthy, and returns the history.
 *
 * It writes once more, over a connection without faults, and waits until the watches have been read up to that write.
 * The write is recorded as one of a client named `last`.
 *
 * @example
 * ```ts
 * import { MemoryStore } from "@effect-kv/memory"
 * import { LockChecker, Recorder, Workload } from "@effect-kv/test-suite/verification"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* MemoryStore.make()
 *   const recorder = yield* Recorder.make
 *   const backend = yield* store.connect
 *   yield* Workload.run(recorder, [backend], { operations: 10 })
 *   const { count, history } = yield* Workload.finish(recorder, backend, [])
 *   LockChecker.check(history, { counts: { "w/counter": count } }) // => []
 * })
 * ```
 *
 * @since 0.1.0
 */
export const finish = Effect.fnUntraced(function*(
  recorder: Recorder.Recorder,
  backend: KvBackend,
  watches: ReadonlyArray<Reading>,
  prefix: string = defaultPrefix
): Effect.fn.Return<Finished, KvError> {
  const value = yield* recorder.value("last")
  const answer = yield* recorder.client("last")(backend).execute(
    Op.txn({ then: [Op.get(`${prefix}${counter}`), Op.put(`${prefix}last`, value)] })
  )
  const { revision } = answer
  const count = answer.succeeded ? answer.responses[0].entries[0]?.text : undefined
  // What goes on in the background from here on, as locks that are given back, is not part of it.
  const { calls, effects, holdings } = yield* recorder.history
  yield* Effect.forEach(watches, (watch) => watch.upTo(revision), { concurrency: "unbounded", discard: true })
  const { watches: read } = yield* recorder.history
  return {
    history: History.watchedUpTo({ calls, effects, holdings, watches: read }, revision),
    revision,
    count: Number(count?.split(" ")[0] ?? 0)
  }
})

class Client {
  readonly #recorder: Recorder.Recorder
  readonly #name: string
  readonly #kv: Kv.Kv
  readonly #options: Options
  readonly #prefix: string
  /** Revisions that were seen, to read at. */
  #seen = 1n
  #lease: bigint | undefined

  constructor(recorder: Recorder.Recorder, name: string, kv: Kv.Kv, options: Options) {
    this.#recorder = recorder
    this.#name = name
    this.#kv = kv
    this.#options = options
    this.#prefix = options.prefix ?? defaultPrefix
  }

  get run(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      for (let i = 0; i < this.#options.operations; i++) {
        const operation = Effect.ignore(yield* this.#operation)
        const isInterrupted = (yield* between(1, 100)) <= (this.#options.interrupted ?? 0)
        yield* isInterrupted ? briefly(operation) : operation
      }
    })
  }

  get #key(): Effect.Effect<string> {
    return Effect.map(between(0, (this.#options.keys ?? 4) - 1), (i) => `${this.#prefix}key/${i}`)
  }

  get #all(): KeyRange.KeyRange {
    return KeyRange.prefix(`${this.#prefix}key/`)
  }

  get #value(): Effect.Effect<string> {
    return this.#recorder.value(this.#name)
  }

  get #operation(): Effect.Effect<Effect.Effect<unknown, unknown>> {
    return Effect.gen({ self: this }, function*() {
      const key = yield* this.#key
      const other = yield* this.#key
      const value = yield* this.#value
      const kind = yield* between(0, 99)
      const kv = this.#kv
      const isOdd = kind % 2 === 1
      if (kind < 20) return this.#see(kv.put(key, value, { previous: isOdd }))
      if (kind < 32) return this.#see(kv.backend.execute(Op.get(key)))
      if (kind < 37) return this.#see(kv.backend.execute(yield* this.#read))
      if (kind < 44) return this.#see(kv.delete(key, { previous: isOdd }))
      if (kind < 46) return this.#see(kv.delete(KeyRange.halfOpen(key, `${this.#prefix}key0`), { previous: isOdd }))
      if (kind < 56) return this.#compareAndSet(key, value)
      if (kind < 62) return this.#testAndSet(key, value)
      if (kind < 68) {
        return kv.modify(
          `${this.#prefix}key/list`,
          Option.match({ onNone: () => value, onSome: (list) => `${list} ${value}` })
        )
      }
      if (kind < 84) return this.#see(kv.backend.execute(this.#transaction(key, other, value, isOdd)))
      if (kind < 92 || this.#options.locks === false) return this.#leased(key, value, kind)
      return this.#increment
    })
  }

  #see<A extends { readonly revision: bigint }>(effect: Effect.Effect<A, unknown>): Effect.Effect<A, unknown> {
    return Effect.tap(effect, (response) =>
      Effect.sync(() => {
        this.#seen = response.revision
      }))
  }

  get #read(): Effect.Effect<Op.Range> {
    return Effect.gen({ self: this }, function*() {
      const range = this.#all
      const back = BigInt(yield* between(0, 5))
      switch (yield* between(0, 5)) {
        case 0:
          return Op.range(range, { limit: 2, order: { by: "modRevision", direction: "descending" } })
        case 1:
          return Op.range(range, { countOnly: true })
        case 2:
          return Op.range(range, { keysOnly: true, minCreateRevision: this.#seen > back ? this.#seen - back : 1n })
        case 3:
          return Op.range(range, { revision: this.#seen > back ? this.#seen - back : 1n })
        case 4:
          return Op.range(range, { serializable: true })
        default:
          return Op.range(range)
      }
    })
  }

  #compareAndSet(key: string, value: string) {
    return Effect.flatMap(this.#kv.getEntry(key), (entry) =>
      this.#kv.compareAndSet(
        key,
        Option.match(entry, { onNone: () => 0n, onSome: ({ modRevision }) => modRevision }),
        value
      ))
  }

  #testAndSet(key: string, value: string) {
    return Effect.flatMap(this.#kv.get(key), (text) => this.#kv.testAndSet(key, text, value))
  }

  #transaction(key: string, other: string, value: string, isNested: boolean): Op.Op {
    const writes = key === other
      ? [Op.put(key, value, { previous: true })]
      : [Op.put(key, value), Op.get(key), isNested ? Op.delete(other, { previous: true }) : Op.put(other, value)]
    const condition = isNested ? Compare.exists(other) : Compare.version(key, "<", 3)
    const txn = Op.txn({ if: [condition], then: writes, else: [Op.get(other), Op.put(other, value)] })
    return isNested ? Op.txn({ then: [Op.range(this.#all), txn] }) : txn
  }

  #leased(key: string, value: string, kind: number): Effect.Effect<unknown, unknown> {
    const lease = this.#lease
    if (lease === undefined) {
      return Effect.tap(this.#kv.backend.leaseGrant({ ttl: "60 seconds" }), ({ id }) =>
        Effect.andThen(
          Effect.sync(() => {
            this.#lease = id
          }),
          this.#kv.put(key, value, { lease: id })
        ))
    }
    if (kind % 4 === 0) return this.#kv.put(key, value, { lease })
    if (kind % 4 === 1) return this.#kv.backend.leaseKeepAlive(lease)
    if (kind % 4 === 2) return this.#kv.backend.leaseTimeToLive(lease, { keys: true })
    return Effect.andThen(
      Effect.sync(() => {
        this.#lease = undefined
      }),
      this.#kv.backend.leaseRevoke(lease)
    )
  }

  get #increment() {
    return Effect.flatMap(between(0, 1), (half) =>
      increment(this.#recorder, this.#name, this.#kv, {
        prefix: this.#prefix,
        acquireTimeout: "30 seconds",
        captured: half === 1
      }))
  }
}

/**
 * How a counter is incremented.
 *
 * @since 0.1.0
 */
export interface IncrementOptions extends DistLock.Options, Pick<Options, "prefix"> {
  /** Runs after the counter was read and before it is written. Default: nothing. */
  readonly meanwhile?: Effect.Effect<void> | undefined
  /**
   * Whether the writes come from a service that captured its `Kv` when its layer was built, before the lock was
   * acquired. Otherwise they come from the `Kv` of the environment under the lock. Default: false.
   */
  readonly captured?: boolean | undefined
}

/** Increments the counter, as services do: through the `Kv` that it captured when its layer was built. */
class CounterService extends Context.Service<CounterService, {
  readonly addOne: (held: DistLock.Lock) => Effect.Effect<Op.PutResponse, KvError>
}>()("@effect-kv/test-suite/Workload/CounterService") {
  static readonly layer = (options: IncrementOptions | undefined) =>
    Layer.effect(CounterService)(
      Effect.map(Kv.Kv, (kv) => ({ addOne: (held) => addOne(kv, held, options, ` ${captured}`) }))
    )
}

/**
 * The ending of values that are written through a captured `Kv`.
 *
 * @since 0.1.0
 */
export const captured = "captured"

const resourceOf = (options: IncrementOptions | undefined): string => `${options?.prefix ?? defaultPrefix}${counter}`

const addOne = Effect.fnUntraced(function*(
  kv: Kv.Kv,
  held: DistLock.Lock,
  options: IncrementOptions | undefined,
  ending: string
) {
  const resource = resourceOf(options)
  const count = Option.getOrElse(yield* kv.get(resource), () => "0")
  if (options?.meanwhile !== undefined) yield* options.meanwhile
  return yield* kv.put(resource, `${Number(count.split(" ")[0]) + 1} by ${held.token}${ending}`)
})

/**
 * Adds one to the counter under the lock. The write is fenced: it is rejected if the lock was lost after the read.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { MemoryStore } from "@effect-kv/memory"
 * import { Recorder, Workload } from "@effect-kv/test-suite/verification"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* MemoryStore.make()
 *   const recorder = yield* Recorder.make
 *   const kv = yield* Effect.flatMap(store.connect, Kv.make)
 *   yield* Workload.increment(recorder, "a", kv)
 *   const { effects } = yield* recorder.history
 *   const outcomes = effects.map((effect) => effect.outcome) // => ["Accepted"]
 * })
 * ```
 *
 * @since 0.1.0
 */
export const increment = (recorder: Recorder.Recorder, client: string, kv: Kv.Kv, options?: IncrementOptions) => {
  const locked = <R>(add: (held: DistLock.Lock) => Effect.Effect<Op.PutResponse, KvError, R>) =>
    recorder.withLock(
      client,
      `${options?.prefix ?? defaultPrefix}${lock}`,
      options,
      (held) => recorder.fenced(client, held, resourceOf(options))(add(held))
    )
  const incremented = options?.captured === true
    ? Effect.provide(
      locked((held) => Effect.flatMap(CounterService, (counter) => counter.addOne(held))),
      CounterService.layer(options)
    )
    : locked((held) => Effect.flatMap(Kv.Kv, (kv) => addOne(kv, held, options, "")))
  return Effect.provideService(incremented, Kv.Kv, kv)
}

const between = (least: number, most: number): Effect.Effect<number> => Random.nextIntBetween(least, most)

/** Interrupts an operation after a while. */
const briefly = <A>(effect: Effect.Effect<A>): Effect.Effect<void> =>
  Effect.flatMap(
    between(1, 10),
    (turns) => Effect.asVoid(Effect.raceFirst(effect, Effect.repeat(Effect.yieldNow, { times: turns })))
  )
