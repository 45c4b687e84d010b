/**
 * Batches what independent fibers ask at the same time into one transaction.
 *
 * A request costs a client far more than what is in it, so many small ones that leave together are many times cheaper than
 * alone. Nothing waits for company: while the store is idle a call is sent at once, and what arrives while calls are under
 * way leaves together as soon as one of them is answered. To its caller each call is as if it had been alone.
 */
import * as Duration from "effect/Duration"
import * as batchQueue from "../internal/batching/batchQueue.ts"
import { classify } from "../internal/batching/footprint.ts"
import { defaultDeadline } from "../values/Deadline.ts"
import type { KvBackend } from "./KvBackend.ts"

/** How much is batched. Numbers are positive integers; with others {@link batched} throws. */
export interface Options {
  /**
   * The most operations of a transaction, the nested ones counted as etcd does. At most what the store takes. Default:
   * 128, as etcd's `--max-txn-ops`.
   */
  readonly maxOps?: number | undefined
  /** The most bytes of a transaction's keys and values, by an estimate that is never too low. Default: 1 MiB. */
  readonly maxBytes?: number | undefined
  /**
   * How many requests of a kind (reads, puts, deletes) are under way before others wait for company. What has waited for
   * 50 milliseconds leaves all the same. Default: 2.
   */
  readonly maxInFlight?: number | undefined
  /**
   * Whether transactions are batched too, as nested ones, and puts that ask for the previous entry. Not where the store has
   * authentication: older versions of etcd (3.4.23 is one) check fewer permissions of those than they do of the same
   * alone. Default: true.
   */
  readonly transactions?: boolean | undefined
  /** The deadline of calls that have no `Deadline` of their own: that of the backend. Default: 5 seconds. */
  readonly deadline?: Duration.Input | undefined
}

/** What is wrong with options, `undefined` where nothing is. */
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
 * Reads are batched with reads, writes that need space with such, deletes with deletes. What concerns a range of keys, a
 * past revision or a serializable read goes alone, and so does what is too large. So does every write with a lease, because
 * recipes order lease-bound keys by create revision, which batching would make equal. Two operations of one transaction never
 * touch the same key, unless both only read it; so the order in which they take effect makes no difference to either.
 *
 * Where the store refuses a transaction for the sake of one of its operations, it is halved and tried again until each has
 * its own answer; what the store may have carried out is never sent again. A caller that is interrupted, or whose deadline
 * passes, leaves the others alone.
 *
 * **Gotchas**
 *
 * Independent writes without a lease may share one revision, as writes of one transaction do.
 *
 * Fold the backend that a `Kv` is made from, never the `backend` of a `Kv`: a transaction is sent by one of those whose
 * operations are in it, and the fences above would be those of that one only.
 */
export const batched = (options?: Options) => (backend: KvBackend): KvBackend => {
  const problem = check(options)
  if (problem !== undefined) throw new RangeError(problem)
  const limits = {
    maxOps: options?.maxOps ?? 128,
    maxBytes: options?.maxBytes ?? 1024 * 1024,
    maxInFlight: options?.maxInFlight ?? 2,
    transactions: options?.transactions ?? true,
    deadline: Duration.fromInputUnsafe(options?.deadline ?? defaultDeadline)
  }
  const batch = batchQueue.make(backend, limits)
  return {
    ...backend,
    execute: (op) => {
      const footprint = classify(op, limits)
      return footprint === undefined ? backend.execute(op) : batch(op, footprint)
    }
  }
}
