/**
 * The changes of a store in order, from its own history. Checkers compare the records of clients with them.
 *
 * For etcd they are recorded by `etcdctl watch --rev=1`, which shares no code with this project: each
 * `EtcdCluster.HistoryEvent` is a `Change`. For memory they are the events of a watch of all keys, opened on the store itself
 * before the first write.
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
 * Which changes are given. By default all, from the first revision to the last one. Otherwise those of some keys, from
 * the revision `from`, at which none of these keys existed, up to `upTo`. Then the history must be about these keys
 * only.
 *
 * @since 0.1.0
 */
export interface Extent {
  readonly from: bigint
  readonly upTo: bigint
}

/**
 * The changes that a watch of all keys has delivered.
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
