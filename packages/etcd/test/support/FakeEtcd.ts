/**
 * A gRPC server that speaks etcd's protocol and does what a test says: for answers that a real etcd gives only by luck.
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
  /** How many milliseconds the client gave it. */
  readonly timeout: number
}

/** What to do about a request. `hang`: nothing. */
export type Reply =
  | { readonly answer: Record<string, unknown> }
  | { readonly code: grpc.status; readonly details: string }
  | "hang"

export interface FakeEtcd {
  readonly endpoint: string
  /** All requests of unary methods, in order. */
  readonly received: ReadonlyArray<Received>
  /** How many of the requests that hung were cancelled by the client. */
  readonly cancelled: () => number
  /** Waits until so many requests were received. */
  readonly awaitReceived: (count: number) => Effect.Effect<void>
  /** Waits until so many requests were cancelled. */
  readonly awaitCancelled: (count: number) => Effect.Effect<void>
  /** Ends all requests that hang, as a server does that is about to stop. */
  readonly drop: Effect.Effect<void>
  /** Sets what the server does from now on. */
  reply: (received: Received) => Reply
}

/** The header of an answer. */
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
    const hanging = new Set<() => void>()
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
      const answer = fake.reply(request)
      changed()
      if (answer === "hang") {
        const end = (): void => callback({ code: grpc.status.UNAVAILABLE, details: "etcdserver: server stopped" })
        hanging.add(end)
        const onCancelled = (): void => {
          hanging.delete(end)
          cancelled += 1
          changed()
        }
        return call.cancelled ? onCancelled() : void call.on("cancelled", onCancelled)
      }
      if ("answer" in answer) return callback(null, answer.answer)
      callback({ code: answer.code, details: answer.details })
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

/** etcd3 keeps its service definitions in the clients it makes of them. */
const definitions = (): ReadonlyArray<grpc.ServiceDefinition> => {
  const host = new Host("127.0.0.1:1", grpc.credentials.createInsecure(), {}, noop)
  const names = ["KV", "Lease", "Auth"] as const
  const found = names.map((name) => (host.getServiceClient(name).constructor as grpc.ServiceClientConstructor).service)
  host.close()
  return found
}
