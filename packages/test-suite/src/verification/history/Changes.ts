/**
 * The store's own history of its data: every change it made, in order. What clients say is judged by it.
 *
 * For etcd it is read by `etcdctl watch --rev=1`, which shares no code with this project: `EtcdCluster.HistoryEvent`s are
 * `Change`s. For memory it is what a watch of everything tells, opened on the store itself before anything is written.
 */
import type * as History from "./History.ts"
import { toBytes } from "./values.ts"

/** One change of one key. */
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
 * Which changes are there: by default all, from the first one's revision to the last one's. Else those of some keys, of
 * which there were none at `from`, up to `upTo`; then a history may be judged that is about no other keys.
 */
export interface Extent {
  readonly from: bigint
  readonly upTo: bigint
}

/** What a watch of every key was told. */
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
