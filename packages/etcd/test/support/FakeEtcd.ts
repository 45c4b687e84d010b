/**
 * A gRPC server with etcd's protocol and scripted responses, for responses that a real etcd gives only by chance.
 */
import * as grpc from "@grpc/grpc-js"
import { noop } from "cockatiel"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import { Host } from "etcd3/lib/connection-pool.js"

/** A request that the server received. */
export interface Received {
  readonly method: string
  readonly request: Record<string, unknown>
  readonly metadata: grpc.Metadata
  /** The remaining milliseconds that the client sent. */
  readonly timeout: number
}

/** The response to a request. `hang` sends none. */
export type Reply =
  | { readonly response: Record<string, unknown> }
  | { readonly code: grpc.status; readonly details: string }
  | "hang"

export interface FakeEtcd {
  readonly endpoint: string
  /** All requests of unary methods, in order. */
  readonly received: ReadonlyArray<Received>
  /** How many hanging requests the client has cancelled. */
  readonly cancelled: () => number
  /** Waits until this many requests were received. */
  readonly awaitReceived: (count: number) => Effect.Effect<void>
  /** Waits until this many requests were cancelled. */
  readonly awaitCancelled: (count: number) => Effect.Effect<void>
  /** Responds to all hanging requests. */
  readonly respond: (response: Record<string, unknown>) => Effect.Effect<void>
  /** Fails all hanging requests, like a server that is about to stop. */
  readonly drop: Effect.Effect<void>
  /** Replaces the script. */
  reply: (received: Received) => Reply
}

/** The header of a response. */
export const header = { cluster_id: "1", member_id: "1", revision: "7", raft_term: "1" }

export const make = (reply: FakeEtcd["reply"] = () => "hang"): Effect.Effect<FakeEtcd, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(start(reply), ({ server }) => Effect.sync(() => server.forceShutdown())),
    (fake) => fake
  )

const start = (reply: FakeEtcd["reply"]): Effect.Effect<FakeEtcd & { readonly server: grpc.Server }> =>
  Effect.callback((resume) => {
    const received: Array<Received> = []
    let cancelled = 0
    const waiting = new Set<() => void>()
    const hanging = new Set<(response?: Record<string, unknown>) => void>()
    const changed = (): void => waiting.forEach((check) => check())
    const until = (condition: () => boolean): Effect.Effect<void> =>
      Effect.suspend(() => {
        if (condition()) return Effect.void
        const latch = Latch.makeUnsafe()
        const check = (): void => void (condition() && latch.openUnsafe())
        waiting.add(check)
        return Effect.ensuring(latch.await, Effect.sync(() => waiting.delete(check)))
      })
    const server = new grpc.Server()
    const fake = {
      endpoint: "",
      received,
      cancelled: () => cancelled,
      awaitReceived: (count: number) => until(() => received.length >= count),
      respond: (response: Record<string, unknown>) =>
        Effect.sync(() => {
          hanging.forEach((end) => end(response))
          hanging.clear()
        }),
      drop: Effect.sync(() => {
        hanging.forEach((end) => end())
        hanging.clear()
      }),
      awaitCancelled: (count: number) => until(() => cancelled >= count),
      reply,
      server
    }
    const handle = (method: string): grpc.handleUnaryCall<Record<string, unknown>, unknown> => (call, callback) => {
      const timeout = Number(call.getDeadline()) - Date.now()
      const request = { method, request: call.request, metadata: call.metadata, timeout }
      received.push(request)
      const reply = fake.reply(request)
      changed()
      if (reply === "hang") {
        const end = (response?: Record<string, unknown>): void =>
          response === undefined
            ? callback({ code: grpc.status.UNAVAILABLE, details: "etcdserver: server stopped" })
            : callback(null, response)
        hanging.add(end)
        const onCancelled = (): void => {
          hanging.delete(end)
          cancelled += 1
          changed()
        }
        return call.cancelled ? onCancelled() : void call.on("cancelled", onCancelled)
      }
      if ("response" in reply) return callback(null, reply.response)
      callback({ code: reply.code, details: reply.details })
    }
    for (const service of definitions()) {
      const unary = Object.keys(service).filter((name) =>
        !service[name]!.requestStream && !service[name]!.responseStream
      )
      server.addService(service, Object.fromEntries(unary.map((name) => [name, handle(name)])))
    }
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (_, port) => {
      fake.endpoint = `http://127.0.0.1:${port}`
      resume(Effect.succeed(fake))
    })
  })

/** etcd3 exposes its service definitions only through the clients it creates. */
const definitions = (): ReadonlyArray<grpc.ServiceDefinition> => {
  const host = new Host("127.0.0.1:1", grpc.credentials.createInsecure(), {}, noop)
  const names = ["KV", "Lease", "Auth", "Cluster", "Maintenance"] as const
  const found = names.map((name) => (host.getServiceClient(name).constructor as grpc.ServiceClientConstructor).service)
  host.close()
  return found
}
