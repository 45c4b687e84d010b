/**
 * Changes of a store's data: every write that the store made, in order. Checkers compare histories with them.
 *
 * For etcd they are read by `etcdctl watch --rev=1`, which shares no code with this project:
 * `EtcdCluster.HistoryEvent`s are `Change`s. For memory they come from a watch of every key that is opened on the store
 * itself before anything is written.
 */
import type * as History from "./History.ts"
import { toBytes } from "./values.ts"

/**
 * One change of one key.
 *
 * @since 0.1.0
 */
export interface Change {
  readonly type: "put" | "delete"
  readonly key: string
  /** Empty for a delete. */
  readonly valueBytes: Uint8Array
  readonly modRevision: bigint
  /** 0 for a delete, like `version` and `lease`. */
  readonly createRevision: bigint
  readonly version: bigint
  readonly lease: bigint
}

/**
 * Which changes are given to a checker.
 *
 * By default they are all changes, from the first one's revision to the last one's. With an extent they are the changes
 * of some keys, which did not exist at `from`, up to `upTo`. The history must then be about those keys alone.
 *
 * @since 0.1.0
 */
export interface Extent {
  readonly from: bigint
  readonly upTo: bigint
}

/**
 * Makes changes of the batches of a watch of every key.
 *
 * @example
 * ```ts
 * import { Changes, type History } from "@effect-kv/test-suite/verification"
 *
 * const batch: History.Batch = {
 *   at: { order: 1, nanos: 0n },
 *   revision: 7n,
 *   events: [{ _tag: "Delete", key: "a", revision: 7n }]
 * }
 * const deleted = Changes.fromBatches([batch]).map(({ key, type }) => `${type} ${key}`) // => ["delete a"]
 * ```
 *
 * @since 0.1.0
 */
export const fromBatches = (batches: ReadonlyArray<Pick<History.Batch, "events">>): ReadonlyArray<Change> =>
  batches.flatMap((batch) =>
    batch.events.map((event): Change =>
      event._tag === "Put"
        ? {
          type: "put",
          key: event.key,
          valueBytes: toBytes(event.entry.value),
          modRevision: event.revision,
          createRevision: event.entry.createRevision,
          version: BigInt(event.entry.version),
          lease: event.entry.lease
        }
        : {
          type: "delete",
          key: event.key,
          valueBytes: new Uint8Array(0),
          modRevision: event.revision,
          createRevision: 0n,
          version: 0n,
          lease: 0n
        }
    )
  )
