/**
 * The limits of a store, with etcd's where etcd has them.
 */
import * as Duration from "effect/Duration"
import type { Options } from "../MemoryStore.ts"
import type { StoreOptions } from "./store.ts"

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
