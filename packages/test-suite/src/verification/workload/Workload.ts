/**
 * A random workload of several clients, whose history is recorded and checked.
 *
 * It has registers, conditional writes, transactions over several keys, appended lists, ranges, past revisions, leases,
 * watches, and a counter fenced by a lock. Each value is written once. Effect's `Random` chooses the operations, so a seed
 * (`Random.withSeed`) repeats them as far as the store behaves the same.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { execute, type KvBackend } from "@effect-kv/core/KvBackend"
import type { KvError } from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import * as History from "../history/History.ts"
import type * as Recorder from "../history/Recorder.ts"
import { counter, defaultPrefix, increment } from "./counter.ts"
import type { Reading } from "./reading.ts"

export { captured, counter, elected, increment, lock } from "./counter.ts"
export type { IncrementOptions } from "./counter.ts"
export { watch } from "./reading.ts"
export type { Reading } from "./reading.ts"

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
  /** All keys begin with this. Default: `w/`. */
  readonly prefix?: string | undefined
  /** Whether the clients also acquire locks. Default: true. */
  readonly locks?: boolean | undefined
  /** How many of a hundred operations are interrupted. Default: 0. */
  readonly interrupted?: number | undefined
  /** The name of clients before their number. Default: `client `. */
  readonly name?: string | undefined
}

/**
 * Runs one client for each backend concurrently, until all have finished.
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
 * The result of a workload.
 *
 * @since 0.1.0
 */
export interface Finished {
  /** The recorded history. */
  readonly history: History.History
  /** The revision of the last write, up to which all watches were read. */
  readonly revision: bigint
  /** How often the counter was incremented. */
  readonly count: number
}

/**
 * Finishes a workload: writes once more, waits until the watches are read up to that write, and returns the history.
 * Call it after all clients have ended, with a backend without faults. The last write is recorded for a client named
 * `last`.
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
  const response = yield* execute(
    recorder.client("last")(backend),
    Op.txn({ then: [Op.get(`${prefix}${counter}`), Op.put(`${prefix}last`, value)] })
  )
  const { revision } = response
  const count = response.succeeded ? response.responses[0].entries[0]?.lossyText : undefined
  // Background work from here on, such as releases of locks, is not part of the history.
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
  /** The last revision seen, near which past revisions are read. */
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
      if (kind < 32) return this.#see(backendOf(kv).execute(Op.get(key)))
      if (kind < 37) return this.#see(backendOf(kv).execute(yield* this.#read))
      if (kind < 44) return this.#see(kv.delete(key, { previous: isOdd }))
      if (kind < 46) {
        return this.#see(kv.deleteRange(KeyRange.halfOpen(key, `${this.#prefix}key0`), { previous: isOdd }))
      }
      if (kind < 56) return this.#compareAndSet(key, value)
      if (kind < 62) return this.#testAndSet(key, value)
      if (kind < 68) {
        return kv.modify(
          `${this.#prefix}key/list`,
          Option.match({ onNone: () => value, onSome: (list) => `${list} ${value}` })
        )
      }
      if (kind < 84) return this.#see(backendOf(kv).execute(this.#transaction(key, other, value, isOdd)))
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
      return Effect.tap(backendOf(this.#kv).leaseGrant({ ttl: "60 seconds" }), ({ id }) =>
        Effect.andThen(
          Effect.sync(() => {
            this.#lease = id
          }),
          this.#kv.put(key, value, { lease: id })
        ))
    }
    if (kind % 4 === 0) return this.#kv.put(key, value, { lease })
    if (kind % 4 === 1) return backendOf(this.#kv).leaseKeepAlive(lease)
    if (kind % 4 === 2) return backendOf(this.#kv).leaseTimeToLive(lease, { keys: true })
    return Effect.andThen(
      Effect.sync(() => {
        this.#lease = undefined
      }),
      backendOf(this.#kv).leaseRevoke(lease)
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

const between = (least: number, most: number): Effect.Effect<number> => Random.nextIntBetween(least, most)

/** Interrupts an operation after a few turns. */
const briefly = <A>(effect: Effect.Effect<A>): Effect.Effect<void> =>
  Effect.flatMap(
    between(1, 10),
    (turns) => Effect.asVoid(Effect.raceFirst(effect, Effect.repeat(Effect.yieldNow, { times: turns })))
  )
