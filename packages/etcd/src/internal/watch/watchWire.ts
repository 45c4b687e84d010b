/**
 * What goes over a watch stream: the requests that are sent, and the responses that come.
 */
import type { WatchRequest } from "@effect-kv/core/Watch"
import type * as etcd3 from "etcd3"
import { bounds } from "../wire/codec.ts"
import type { Header } from "../wire/header.ts"

export type Request = etcd3.IWatchRequest

/** `etcdserverpb.WatchResponse` */
export interface Response {
  /** The store's revision in it is the one when the response was made. */
  readonly header: Header
  /** -1 for none. */
  readonly watchId: number
  readonly created: boolean
  readonly canceled: boolean
  /** 0 for none. */
  readonly compactRevision: number
  readonly cancelReason: string
  /** Whether the response goes on in the next message. */
  readonly fragment: boolean
  readonly hasEvents: boolean
  /** Decodes a part of the events. Returns whether all are decoded. */
  readonly decodeEvents: () => boolean
  /** Decoded, or the rest of it, when it is first asked for. */
  readonly events: ReadonlyArray<WireEvent>
}

/** `mvccpb.Event` */
export interface WireEvent {
  readonly isDelete: boolean
  readonly kv: WireKeyValue
  readonly previous: WireKeyValue | undefined
}

/** `mvccpb.KeyValue`: the key and the value are these parts of the message. */
export interface WireKeyValue {
  readonly message: Buffer
  readonly keyStart: number
  readonly keyEnd: number
  readonly valueStart: number
  readonly valueEnd: number
  readonly createRevision: number
  readonly modRevision: number
  readonly version: number
  readonly lease: bigint
}

/** `WatchCreateRequest.FilterType` */
const noPut = 0
const noDelete = 1

/**
 * Asks for a watch from a revision on, `0n` for what happens from now on.
 *
 * The id is chosen by the client, so that it is known at once. `progress_notify` makes the server tell from time to time up
 * to which revision an idle watch has seen everything. `fragment` makes it split a response of more than 2 MiB.
 */
export const create = (request: WatchRequest, id: number, from: bigint, fragment: boolean): Request => ({
  create_request: {
    ...bounds(request.range),
    watch_id: id,
    start_revision: `${from}`,
    filters: request.only === undefined ? [] : [request.only === "Put" ? noDelete : noPut],
    prev_kv: request.previous === true,
    progress_notify: true,
    fragment
  }
})

/** About how many bytes a request for the watch takes: what its bounds do. */
export const sizeOf = (request: WatchRequest): number => {
  const { key, range_end } = bounds(request.range)
  return key.length + (range_end?.length ?? 0)
}

export const cancel = (id: number): Request => ({ cancel_request: { watch_id: id } })

/** Asks how far the watches of the stream are: see `watchProgress.ts`. */
export const progress: Request = { progress_request: {} }
