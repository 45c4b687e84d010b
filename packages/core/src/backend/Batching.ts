/**
 * Batching: concurrent operations of independent fibers are sent as one transaction.
 *
 * A request costs a client much more than the operations in it, so many small operations are much cheaper together.
 * Batching adds no delay: when nothing is in flight, a call is sent at once. Calls that arrive while requests are in
 * flight are queued until the next batch, which is sent as soon as a response arrives. Each caller gets its own
 * response.
 */
import * as Duration from "effect/Duration"
import * as batchQueue from "../internal/batching/batchQueue.ts"
import { classify } from "../internal/batching/footprint.ts"
import * as calls from "../internal/metrics/calls.ts"
import { defaultDeadline } from "../values/Deadline.ts"
import type { KvBackend } from "./KvBackend.ts"

/**
 * Limits of batches. A number that is not a positive integer makes {@link batched} throw.
 *
 * @since 0.1.0
 */
export interface Options {
  /**
   * The most operations of a transaction, counting nested ones as etcd does. It must not exceed the store's own
   * limit. Default: 128, as etcd's `--max-txn-ops`.
   */
  readonly maxOps?: number | undefined
  /** The most bytes of a transaction's keys and values, by an estimate that is never too low. Default: 1 MiB. */
  readonly maxBytes?: number | undefined
  /**
   * How many requests of a kind (reads, puts, deletes) are in flight before further calls are queued. Queued calls that
   * fill a request are sent at once, as long as no more than four times as many requests are in flight. A call that was
   * queued for 50 milliseconds is sent in any case. Default: 2.
   */
  readonly maxInFlight?: number | undefined
  /**
   * Whether transactions are batched too, as nested ones, and puts that request the previous entry. Use false if the
   * store has authentication: older versions of etcd (such as 3.4.23) check fewer permissions of nested transactions.
   * Default: true.
   */
  readonly transactions?: boolean | undefined
  /** The backend's deadline, for calls that do not set a `Deadline`. Default: 5 seconds. */
  readonly deadline?: Duration.Input | undefined
  /**
   * Where the calls to the backend are measured: see `KvMetrics.calls`. It costs less than `KvMetrics.measured` around
   * the batched backend. Default: not measured.
   */
  readonly metrics?: calls.Calls | undefined
}

/**
 * The problem with options; `undefined` if they are valid.
 *
 * @example
 * ```ts
 * import { Batching } from "@effect-kv/core/backend"
 *
 * Batching.check({ maxOps: 64 }) // => undefined
 * Batching.check({ maxOps: 0 }) // => "maxOps must be a positive integer"
 * ```
 *
 * @since 0.1.0
 */
export const check = (options: Pick<Options, "maxOps" | "maxBytes" | "maxInFlight"> | undefined): string | undefined =>
  notPositive("maxOps", options?.maxOps) ?? notPositive("maxBytes", options?.maxBytes) ??
    notPositive("maxInFlight", options?.maxInFlight)

const notPositive = (name: string, value: number | undefined): string | undefined =>
  value === undefined || Number.isSafeInteger(value) && value > 0 ? undefined : `${name} must be a positive integer`

/**
 * Batches concurrent operations on single keys.
 *
 * **Details**
 *
 * Reads are batched with reads, writes that need space with such writes, deletes with deletes. Operations on a range of
 * keys, at a past revision, serializable reads and operations that are too large are sent alone. So is every write with
 * a lease, because recipes order lease-bound keys by create revision, which batching would make equal. No two
 * operations of a batch write the same key, and none reads a key that another writes. So the order in which they take
 * effect does not matter.
 *
 * If the store rejects a batch because of one of its operations, the batch is halved and each half sent again, until
 * each operation has its own response. A batch that the store may have executed is never sent again. Interrupting one
 * caller, or its deadline, does not affect the others.
 *
 * **Gotchas**
 *
 * Independent writes without a lease may share one revision, as the writes of one transaction do.
 *
 * Batch the backend that a `Kv` is made from, not one in `Kv.mapBackend`: a batch is sent by the fiber of one of its
 * callers, with the fences of that caller alone.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { Batching } from "@effect-kv/core/backend"
 * import { MemoryStore } from "@effect-kv/memory"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* MemoryStore.make()
 *   const kv = yield* Effect.flatMap(store.connect, (backend) => Kv.make(Batching.batched()(backend)))
 *   yield* Effect.all([kv.put("a", "1"), kv.put("b", "2")], { concurrency: "unbounded" })
 *   yield* kv.get("b") // => Option.some("2")
 * })
 * ```
 *
 * @since 0.1.0
 */
export const batched = (options?: Options) => (backend: KvBackend): KvBackend => {
  const problem = check(options)
  if (problem !== undefined) throw new RangeError(problem)
  const limits = {
    maxOps: options?.maxOps ?? 128,
    maxBytes: options?.maxBytes ?? 1024 * 1024,
    maxInFlight: options?.maxInFlight ?? 2,
    transactions: options?.transactions ?? true,
    deadline: Duration.fromInputUnsafe(options?.deadline ?? defaultDeadline),
    metrics: options?.metrics
  }
  const alone = options?.metrics === undefined ? backend : calls.measured(options.metrics)(backend)
  const batch = batchQueue.make(backend, limits)
  return {
    ...alone,
    execute: (op) => {
      const footprint = classify(op, limits)
      return footprint === undefined ? alone.execute(op) : batch(op, footprint)
    }
  }
}
