/**
 * The six functions, on a connection.
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
import * as connection from "./rpc/connection.ts"
import * as describe from "./rpc/describeCall.ts"
import type { Kind } from "./rpc/errors.ts"
import type { Call } from "./rpc/retry.ts"
import type { Settings } from "./settings.ts"
import type { Order } from "./store/storeIdentity.ts"
import * as watch from "./watch/watch.ts"
import * as codec from "./wire/codec.ts"
import type { NotUtf8 } from "./wire/codec.ts"
import { type Answer, decoded, observed, withHeader } from "./wire/decoded.ts"
import * as keysOnly from "./wire/keysOnly.ts"
import * as responses from "./wire/responses.ts"

export const make = Effect.fnUntraced(
  function*(
    settings: Settings
  ): Effect.fn.Return<{ readonly kv: KvBackend; readonly client: EtcdClient.EtcdClient }, never, Scope.Scope> {
    const to = yield* connection.make(settings)
    yield* superviseStore(to)
    const client = yield* EtcdClient.make(settings, to.tokens)
    const watches = yield* watch.make(to, { deadline: settings.deadline })
    // The last to be added is the first to run: what is under way learns that the client is closed.
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
    return { kv: settings.prefix === "" ? kv : Namespace.prefixed(settings.prefix)(kv), client }
  }
)

/** The same response whichever version of etcd the server is. */
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
    case "Range": {
      const send = connection.kv((service) => service.range, decodeRange, codec.encodeRange(op))
      return carry(to, orderOf(op), { name: "range", about, kind: "read", hasLeader: op.serializable !== true, send })
    }
    case "Put": {
      const send = connection.kv((service) => service.put, decodePut, codec.encodePut(op))
      return carry(to, "Linearizable", { name: "put", about, kind: "write", hasLeader: true, send })
    }
    case "Delete": {
      const send = connection.kv((service) => service.deleteRange, decodeDelete, codec.encodeDelete(op))
      return carry(to, "Linearizable", { name: "delete", about, kind: "write", hasLeader: true, send })
    }
    case "Txn": {
      if (isConditionsOnly(op)) return Effect.map(execute(to, looking(op)), answerOf)
      const kind: Kind = Op.isWrite(op) ? "write" : "read"
      const send = connection.kv((service) => service.txn, decodeTxn, codec.encodeTxn(op))
      return carry(to, orderOf(op), { name: "txn", about, kind, hasLeader: true, send })
    }
  }
}

/**
 * A transaction without operations is answered by whichever member is asked, from what it knows, which may be stale: etcd
 * (`isTxnSerializable` in v3_server.go) looks for an operation that is not serializable, and finds none. So one is put in,
 * a read of what the conditions are about, which the caller may read.
 */
const isConditionsOnly = (op: Op.Txn): boolean => op.if.length > 0 && op.then.length === 0 && op.else.length === 0

const looking = (op: Op.Txn): Op.Txn => {
  const look = op.if.slice(0, 1).map((compare) =>
    Op.range(compare.target === "CreatedBefore" ? compare.range : KeyRange.key(compare.key), { countOnly: true })
  )
  return { ...op, then: look, else: look }
}

const answerOf = (response: Op.Response<Op.Op>): Op.Response<Op.Op> =>
  response._tag === "Txn" ? { ...response, responses: [] } : response

/**
 * Whether etcd linearizes the operation. It does not if it is a read that asks for less, or a transaction of nothing but
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

const carry = <A>(
  to: connection.Connection,
  order: Order,
  call: Call<Answer<A | NotUtf8>>
): Effect.Effect<A, KvError.KvError> => {
  const { about, hasLeader, kind, name } = call
  const send = observed(to.store, order, call.send)
  return Effect.flatMap(to.run({ name, about, kind, hasLeader, send }), (answer) => decoded(kind, answer))
}

/** Checks the store when there is a reason to, and says once if it was replaced. */
const superviseStore = Effect.fnUntraced(function*(to: connection.Connection) {
  const { identity, suspicions } = to.store
  const context = yield* Effect.context<never>()
  const stop = identity.onReplaced(({ message }, isNews) => {
    if (isNews) Effect.runForkWith(context)(Effect.logWarning(`effect-kv: ${message}`))
  })
  yield* Effect.addFinalizer(() => Effect.sync(stop))
  yield* Effect.forkScoped(suspicions.settleAll((range) => execute(to, Op.range(range, { keysOnly: true, limit: 1 }))))
})
