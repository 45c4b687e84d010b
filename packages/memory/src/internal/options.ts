/**
 * The limits of a store, with etcd's where etcd has them.
 */
import * as Duration from "effect/Duration"
import type { StoreOptions } from "./store.ts"

/** How much history a store keeps. What is older is compacted after each write, in constant time. */
export interface HistoryOptions {
  /** How many revisions before the last one can be read. Default: 100,000. */
  readonly revisions?: number | undefined
  /** How much memory the history may take, in bytes, by estimate. Default: 64 MiB. */
  readonly bytes?: number | undefined
}

/** Options of a store. */
export interface Options {
  readonly history?: HistoryOptions | undefined
  /** The most operations of a transaction. Default: 128, as etcd's. */
  readonly maxTxnOps?: number | undefined
  /** The most bytes of the keys and values of a write. Default: 1.5 MiB, as etcd's. A read may have 512 KiB more. */
  readonly maxRequestBytes?: number | undefined
  /** Leases are granted at least this time to live, rounded up to whole seconds. Default: 2 seconds, as etcd's. */
  readonly minLeaseTtl?: Duration.Input | undefined
}

/**
 * Memory takes no notice of who still wants the history, so it is bounded; at 64 MiB and 100,000 revisions a watch that
 * resumes, or a range that is read page by page, has to fall far behind to notice.
 */
export const resolveOptions = (options: Options | undefined): StoreOptions => ({
  retention: {
    revisions: positive("history.revisions", options?.history?.revisions ?? 100_000),
    bytes: positive("history.bytes", options?.history?.bytes ?? 64 * 1024 * 1024)
  },
  limits: {
    maxTxnOps: positive("maxTxnOps", options?.maxTxnOps ?? 128),
    maxRequestBytes: positive("maxRequestBytes", options?.maxRequestBytes ?? 1.5 * 1024 * 1024)
  },
  minLeaseTtl: positive(
    "minLeaseTtl in seconds",
    Math.ceil(Duration.toSeconds(Duration.fromInputUnsafe(options?.minLeaseTtl ?? "2 seconds")))
  )
})

const positive = (name: string, value: number): number => {
  if (Number.isSafeInteger(value) && value > 0) return value
  throw new RangeError(`${name} must be a positive integer, not ${value}`)
}
