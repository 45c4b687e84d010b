/**
 * Options of a store. The default limits are those of etcd.
 */
import * as Duration from "effect/Duration"
import type { StoreOptions } from "./store.ts"

/**
 * How much history a store keeps. Older history is compacted after each write, in constant time.
 *
 * @since 0.1.0
 */
export interface HistoryOptions {
  /** How many revisions before the last one can be read. Default: 100,000. */
  readonly revisions?: number | undefined
  /** How much memory the history may take, in bytes, by an estimate. Default: 64 MiB. */
  readonly bytes?: number | undefined
}

/**
 * Options of a store.
 *
 * @since 0.1.0
 */
export interface Options {
  /** How much history is kept. Default: 100,000 revisions and 64 MiB. */
  readonly history?: HistoryOptions | undefined
  /** The most operations of a transaction. Default: 128, as in etcd. */
  readonly maxTxnOps?: number | undefined
  /** The most bytes of the keys and values of a write. Default: 1.5 MiB, as in etcd. A read may have 512 KiB more. */
  readonly maxRequestBytes?: number | undefined
  /** Leases are granted at least this time to live, rounded up to whole seconds. Default: 2 seconds, as in etcd. */
  readonly minLeaseTtl?: Duration.Input | undefined
}

/**
 * Fills in the defaults. History is bounded even if a reader still needs it. At 64 MiB and 100,000 revisions, a watch
 * that resumes or a range that is read page by page must fall far behind to be affected.
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
