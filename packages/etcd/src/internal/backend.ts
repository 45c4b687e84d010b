/**
 * The etcd backend: the six functions of `KvBackend` on a connection.
 */
import * as Check from "@effect-kv/core/Check"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import * as Namespace from "@effect-kv/core/Namespace"
import * as Op from "@effect-kv/core/Op"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as EtcdClient from "../EtcdClient.ts"
import * as leases from "./leases.ts"
import * as memberStatus from "./memberStatus.ts"
import * as connection from "./rpc/connection.ts"
import * as describe from "./rpc/describeCall.ts"
import type { Call, RetryPolicy } from "./rpc/retry.ts"
import type * as rpc from "./rpc/rpc.ts"
import type { Settings } from "./settings.ts"
import type { Order, Replaced } from "./store/storeIdentity.ts"
import * as watch from "./watch/watch.ts"
import * as codec from "./wire/codec.ts"
import type { NotUtf8 } from "./wire/codec.ts"
import { decoded, observed, type WithHeader, withHeader } from "./wire/decoded.ts"
import * as keysOnly from "./wire/keysOnly.ts"
import * as responses from "./wire/responses.ts"

interface Made {
  readonly kv: KvBackend
  readonly client: EtcdClient.EtcdClient
  readonly alarms: Effect.Effect<ReadonlyArray<string>, KvError.KvError>
}

export const make = Effect.fnUntraced(
  function*(
    settings: Settings
  ): Effect.fn.Return<Made, never, Scope.Scope> {
    const to = yield* connection.make(settings)
    yield* superviseStore(to)
    const client = yield* EtcdClient.make(settings, to.addresses, to.tokens)
    const watches = yield* watch.make(to, { deadline: settings.deadline, meter: settings.meter })
    // Added last, so it runs first: calls in flight fail because the client is closed.
    yield* Effect.addFinalizer(() => to.shutdown)
    const kv: KvBackend = {
      execute: (op) => uniform(to, op),
      watch: (request) =>
        Effect.mapError(watches.open(request), (error) =>
          error.reason._tag === "PermissionDenied"
            ? denied(error, `watch ${describe.range(request.range)}`)
            : error),
      ...leases.make(to)
    }
    return {
      alarms: memberStatus.alarmNames(to),
      kv: settings.prefix === "" ? kv : Namespace.prefixed(settings.prefix)(kv),
      client
    }
  }
)

/** The same response from every version of etcd. */
const uniform = (to: connection.Connection, op: Op.Op): Effect.Effect<Op.Response<Op.Op>, KvError.KvError> =>
  keysOnly.isKeysOnly(op)
    ? Effect.map(execute(to, op), (response) => keysOnly.withoutLeases(op, response))
    : execute(to, op)

const denied = (error: KvError.KvError, about: string): KvError.KvError =>
  KvError.make(new KvError.PermissionDenied({ message: `${error.reason.message} (${about})` }), error)

const execute = (to: connection.Connection, op: Op.Op): Effect.Effect<Op.Response<Op.Op>, KvError.KvError> => {
  const problem = Check.op(op)
  if (problem !== undefined) return KvError.fail(new KvError.InvalidRequest({ message: problem }))
  const about = (): string => describe.op(op)
  switch (op._tag) {
    case "Range":
      return run(to, orderOf(op), "read", { name: "range", about, hasLeader: op.serializable !== true }, {
        path: "/etcdserverpb.KV/Range",
        request: codec.encodeRange(op),
        decode: decodeRange
      })
    case "Put":
      return run(to, "Linearizable", "write", { name: "put", about, hasLeader: true }, {
        path: "/etcdserverpb.KV/Put",
        request: codec.encodePut(op),
        decode: decodePut
      })
    case "Delete":
      return run(to, "Linearizable", "write", { name: "delete", about, hasLeader: true }, {
        path: "/etcdserverpb.KV/DeleteRange",
        request: codec.encodeDelete(op),
        decode: decodeDelete
      })
    case "Txn":
      if (isConditionsOnly(op)) return Effect.map(execute(to, withRead(op)), withoutResponses)
      return run(to, orderOf(op), Op.isWrite(op) ? "write" : "read", { name: "txn", about, hasLeader: true }, {
        path: "/etcdserverpb.KV/Txn",
        request: codec.encodeTxn(op),
        decode: decodeTxn
      })
  }
}

/**
 * A transaction of conditions only. Any member would respond to it from its own state, which may be stale: etcd
 * (`isTxnSerializable` in v3_server.go) finds no operation that needs linearizing. The client therefore adds one: a
 * read of a condition's keys, which the caller is permitted to read.
 */
const isConditionsOnly = (op: Op.Txn): boolean => op.if.length > 0 && op.then.length === 0 && op.else.length === 0

const withRead = (op: Op.Txn): Op.Txn => {
  const read = op.if.slice(0, 1).map((compare) =>
    Op.range(compare.target === "CreatedBefore" ? compare.range : KeyRange.key(compare.key), { countOnly: true })
  )
  return { ...op, then: read, else: read }
}

const withoutResponses = (response: Op.Response<Op.Op>): Op.Response<Op.Op> =>
  response._tag === "Txn" ? { ...response, responses: [] } : response

/**
 * Whether etcd linearizes the operation. It does not linearize serializable reads, or transactions that contain only
 * such reads (`isTxnSerializable` in v3_server.go).
 */
const orderOf = (op: Op.Range | Op.Txn): Order => isSerializable(op) ? "Stale" : "Linearizable"

const isSerializable = (op: Op.Range | Op.Txn): boolean =>
  op._tag === "Range"
    ? op.serializable === true
    : [...op.then, ...op.else].every((op) => op._tag === "Range" && op.serializable === true)

const decodeRange = withHeader(responses.decodeRange)
const decodePut = withHeader(responses.decodePut)
const decodeDelete = withHeader(responses.decodeDelete)
const decodeTxn = withHeader(responses.decodeTxn)

const run = <A>(
  to: connection.Connection,
  order: Order,
  policy: RetryPolicy,
  call: Pick<Call<never>, "name" | "about" | "hasLeader">,
  request: rpc.Rpc<WithHeader<A | NotUtf8>>
): Effect.Effect<A, KvError.KvError> =>
  to.run<A | NotUtf8 | Replaced, A>({
    name: call.name,
    about: call.about,
    hasLeader: call.hasLeader,
    policy,
    send: observed(to.store, order, request),
    finish: (result) => decoded(policy, result)
  })

/** Checks the store after each suspicion, and logs a replacement once. */
const superviseStore = Effect.fnUntraced(function*(to: connection.Connection) {
  const { identity, suspicions } = to.store
  const context = yield* Effect.context<never>()
  const stop = identity.onReplaced(({ message }, isNews) => {
    if (isNews) Effect.runForkWith(context)(Effect.logWarning(`effect-kv: ${message}`))
  })
  yield* Effect.addFinalizer(() => Effect.sync(stop))
  yield* Effect.forkScoped(suspicions.settleAll((range) => execute(to, Op.range(range, { keysOnly: true, limit: 1 }))))
})
