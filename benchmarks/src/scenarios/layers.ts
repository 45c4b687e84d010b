/**
 * The cost of a call by layer: the same call, one in flight, through one more layer of the client with each subject. The
 * column to read is the CPU time of an operation; a layer costs the difference to the subject before it.
 *
 * Many short rounds, because what else the machine does costs more than a layer.
 *
 * `http2` is a bare request of `node:http2` with a gRPC frame in it, the lower bound. `backend` is the client's transport,
 * codec and retries on top of it.
 */
import { Kv, Op } from "@effect-kv/core"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import { EtcdLayer } from "@effect-kv/etcd"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as http2 from "node:http2"
import * as Measure from "../Measure.ts"
import type { Scenario } from "../Scenario.ts"
import * as Calls from "../subjects/Calls.ts"

type Name = "get" | "put"

const key = Calls.key(0)

const scenario = (name: Name): Scenario => ({
  name: `layers-${name}`,
  run: Effect.fnUntraced(function*({ etcd, options }) {
    const { endpoints } = yield* etcd
    const [endpoint] = endpoints as [string]
    const op = name === "get" ? Op.get(key) : Op.put(key, Calls.value)
    const execute = (backend: KvBackend) => ({ effect: () => backend.execute(op) })
    const call = (kv: Kv.Kv) => ({ effect: () => name === "get" ? kv.get(key) : kv.put(key, Calls.value) })
    const kv = yield* open({ endpoints })
    const prefixed = Kv.prefixed(kv, "bench/layers/")
    yield* kv.put(key, Calls.value)
    yield* prefixed.put(key, Calls.value)
    return yield* Measure.alternate(`layers-${name}`, 1, [
      { name: "http2", promise: yield* bare(endpoint, requests[name]) },
      { name: "backend", ...execute(rawOf(yield* open({ endpoints, batching: false, tracing: false }))) },
      { name: "with batching", ...execute(rawOf(yield* open({ endpoints, tracing: false }))) },
      { name: "with tracing", ...execute(rawOf(yield* open({ endpoints }))) },
      { name: "Kv", ...call(kv) },
      { name: "Kv with a prefix", ...call(prefixed) }
    ], { rounds: 6 * options.rounds, millis: options.millis / 6 })
  })
})

export const get = scenario("get")
export const put = scenario("put")

const open = (options: EtcdLayer.Options) =>
  Effect.map(Layer.build(EtcdLayer.layer(options)), (context) => Context.get(context, Kv.Kv))

/** The backend that a `Kv` was made from, below its fences. */
const rawOf = (kv: Kv.Kv): KvBackend => {
  let raw = Option.none<KvBackend>()
  Kv.mapBackend(kv, (backend) => {
    raw = Option.some(backend)
    return backend
  })
  return Option.getOrThrow(raw)
}

interface Request {
  readonly path: string
  readonly message: Buffer
}

const field = (tag: number, text: string): Buffer => Buffer.from([tag, text.length, ...Buffer.from(text)])

const requests: Record<Name, Request> = {
  get: { path: "/etcdserverpb.KV/Range", message: field(0x0a, key) },
  put: { path: "/etcdserverpb.KV/Put", message: Buffer.concat([field(0x0a, key), field(0x12, Calls.value)]) }
}

const bare = Effect.fnUntraced(function*(endpoint: string, { message, path }: Request) {
  const session = yield* Effect.acquireRelease(
    Effect.sync(() => http2.connect(endpoint)),
    (session) => Effect.sync(() => session.destroy())
  )
  const headers = {
    ":method": "POST",
    ":path": path,
    te: "trailers",
    "content-type": "application/grpc",
    hasleader: "true",
    "grpc-timeout": "5000m"
  }
  const framed = Buffer.concat([Buffer.from([0, 0, 0, 0, message.length]), message])
  return () =>
    new Promise<void>((resolve, reject) => {
      const stream = session.request(headers)
      stream.on("data", () => {})
      stream.on("error", reject)
      stream.on("close", resolve)
      stream.end(framed)
    })
})
