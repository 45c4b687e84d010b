/**
 * `@grpc/grpc-js` alone, with a client, a path and bytes: the minimum cost of any client on top of it.
 *
 * The messages are encoded and decoded by `etcd3`'s protobuf types, taken from a client that never connects.
 * connected.
 */
import * as grpc from "@grpc/grpc-js"
import * as Effect from "effect/Effect"
import type { IPutRequest, IPutResponse, IRangeRequest, IRangeResponse, ITxnRequest, ITxnResponse } from "etcd3"
import { Host } from "etcd3/lib/connection-pool.js"
import * as Calls from "./Calls.ts"
import * as Messages from "./Messages.ts"

interface KvMethods {
  readonly range: grpc.MethodDefinition<IRangeRequest, IRangeResponse>
  readonly put: grpc.MethodDefinition<IPutRequest, IPutResponse>
  readonly txn: grpc.MethodDefinition<ITxnRequest, ITxnResponse>
}

export const open = (endpoints: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const [address] = endpoints as [string]
      const credentials = grpc.credentials.createInsecure()
      const types = new Host(address, credentials)
      const methods = types.getServiceClient("KV") as unknown as KvMethods
      return { client: new grpc.Client(address.replace(/^http:\/\//, ""), credentials), methods, types }
    }),
    ({ client, types }) =>
      Effect.sync(() => {
        client.close()
        types.close()
      })
  )

export const calls = ({ client, methods }: Effect.Success<ReturnType<typeof open>>): Calls.Calls => {
  const unary = <Request, Response>(
    { path, requestSerialize, responseDeserialize }: grpc.MethodDefinition<Request, Response>,
    request: Request
  ) =>
    new Promise<Response>((resolve, reject) =>
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, (error, response) => {
        if (response === undefined) reject(error ?? new Error("there was neither an error nor a response"))
        else resolve(response)
      })
    )
  const revisions: Array<string> = []
  return Calls.ofPromises({
    get: (caller) => unary(methods.range, Messages.get(caller)),
    put: (caller) => unary(methods.put, Messages.put(caller)),
    cas: async (caller) => {
      const response = await unary(methods.txn, Messages.cas("grpc-js", caller, revisions[caller]))
      revisions[caller] = Messages.revisionOf(response)
    },
    range: () => unary(methods.range, Messages.range)
  })
}
