/**
 * The encoder of watch requests. Fields are numbered as in etcd's `rpc.proto`.
 */
import { Writer } from "../wire/wireWriter.ts"
import type { Request } from "./watchWire.ts"

const writer = new Writer()

/** Encodes a `WatchRequest`. */
export const encodeRequest = (request: Request): Buffer => {
  switch (request._tag) {
    case "Create":
      writer.flag(0x40, request.fragment)
      writer.number(0x38, request.id)
      writer.flag(0x30, request.previous)
      if (request.filter !== undefined) writer.content(0x2a, Buffer.from([request.filter]))
      // `progress_notify`: the server periodically reports up to which revision an idle watch is complete.
      writer.flag(0x20, true)
      writer.int64Field(0x18, request.from)
      if (request.bounds.range_end !== undefined) writer.content(0x12, request.bounds.range_end)
      writer.content(0x0a, request.bounds.key)
      writer.message(0x0a, 0)
      break
    case "Cancel":
      writer.number(0x08, request.id)
      writer.message(0x12, 0)
      break
    case "Progress":
      writer.message(0x1a, 0)
      break
  }
  return writer.finish()
}
