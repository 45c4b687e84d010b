/**
 * The method of the Watch service, with our decoder in place of etcd3's.
 */
import type * as grpc from "@grpc/grpc-js"
import type * as etcd3 from "etcd3"
import type { Duplex, WatchService } from "../rpc/services.ts"
import { decodeResponse } from "./watchDecode.ts"
import type { Request, Response } from "./watchWire.ts"

/** Opens a stream of the service, with responses decoded as here. */
export const opener = (service: WatchService): Duplex<Request, Response> => {
  const { path, requestSerialize } = service.watch as unknown as grpc.MethodDefinition<Request, etcd3.IWatchResponse>
  return (metadata, options) => service.makeBidiStreamRequest(path, requestSerialize, decodeResponse, metadata, options)
}
