/**
 * What goes over a watch stream: the requests that are sent, and the responses that come.
 */
import type { WatchRequest } from "@effect-kv/core/Watch"
import { type Bounds, bounds } from "../wire/codec.ts"
import type { Header } from "../wire/header.ts"

/** `etcdserverpb.WatchRequest` */
export type Request =
  | {
    readonly _tag: "Create"
    readonly bounds: Bounds
    readonly id: number
    /** The first revision, `0n` for the next one. */
    readonly from: bigint
    /** What the watch is not for: one of {@link Filter}. */
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

/**
 * Requests a watch from a revision on, `0n` for what happens from now on.
 *
 * The id is chosen by the client, so that it is known at once. `fragment` makes the server split a response of more than
 * 2 MiB.
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

/** About how many bytes a request for the watch takes: what its bounds do. */
export const sizeOf = (request: WatchRequest): number => {
  const { key, range_end } = bounds(request.range)
  return key.length + (range_end?.length ?? 0)
}

export const cancel = (id: number): Request => ({ _tag: "Cancel", id })

/** Asks how far the watches of the stream are: see `watchProgress.ts`. */
export const progress: Request = { _tag: "Progress" }
