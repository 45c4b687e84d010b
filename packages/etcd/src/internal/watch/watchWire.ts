/**
 * The messages of a watch stream: requests and responses.
 */
import type { WatchRequest } from "@effect-kv/core/Watch"
import { type Bounds, bounds } from "../wire/codec.ts"
import type { Header } from "../wire/header.ts"
import type { WireKeyValue } from "../wire/keyValue.ts"

/** `etcdserverpb.WatchRequest` */
export type Request =
  | {
    readonly _tag: "Create"
    readonly bounds: Bounds
    readonly id: number
    /** The first revision, `0n` for the next one. */
    readonly from: bigint
    /** The kind of events that the watch excludes: one of {@link Filter}. */
    readonly filter: number | undefined
    readonly previous: boolean
    readonly fragment: boolean
  }
  | { readonly _tag: "Cancel"; readonly id: number }
  | { readonly _tag: "Progress" }

/** `WatchCreateRequest.FilterType` */
export const Filter = { noPut: 0, noDelete: 1 } as const

/** `etcdserverpb.WatchResponse` */
export interface Response {
  /** Its revision is the store's revision when the response was made. */
  readonly header: Header
  /** -1 for no watch. */
  readonly watchId: number
  readonly created: boolean
  readonly canceled: boolean
  /** 0 for no compaction. */
  readonly compactRevision: number
  readonly cancelReason: string
  /** Whether the response continues in the next message. */
  readonly fragment: boolean
  readonly hasEvents: boolean
  /** Decodes a part of the events. Returns whether all are decoded. */
  readonly decodeEvents: () => boolean
  /** The events. Reading them decodes the rest. */
  readonly events: ReadonlyArray<WireEvent>
}

/** `mvccpb.Event` */
export interface WireEvent {
  readonly isDelete: boolean
  readonly kv: WireKeyValue
  readonly previous: WireKeyValue | undefined
}

/**
 * A request for a watch from a revision on, `0n` for now.
 *
 * The client chooses the id, so it is known immediately. With `fragment` the server splits a response of more than 2
 * MiB.
 */
export const create = (request: WatchRequest, id: number, from: bigint, fragment: boolean): Request => ({
  _tag: "Create",
  bounds: bounds(request.range),
  id,
  from,
  filter: request.only === undefined ? undefined : request.only === "Put" ? Filter.noDelete : Filter.noPut,
  previous: request.previous === true,
  fragment
})

/** The approximate size of a create request: the size of its bounds. */
export const sizeOf = (request: WatchRequest): number => {
  const { key, range_end } = bounds(request.range)
  return key.length + (range_end?.length ?? 0)
}

export const cancel = (id: number): Request => ({ _tag: "Cancel", id })

/** A request for the progress of the stream's watches: see `watchProgress.ts`. */
export const progress: Request = { _tag: "Progress" }
