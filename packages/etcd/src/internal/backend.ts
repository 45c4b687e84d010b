/**
 * The six functions, on a connection.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import * as Namespace from "@effect-kv/core/Namespace"
import * as Op from "@effect-kv/core/Op"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as EtcdClient from "../EtcdClient.ts"
import * as codec from "./codec.ts"
import type { NotUtf8 } from "./codec.ts"
import * as connection from "./connection.ts"
import { decoded, orNotUtf8 } from "./decoded.ts"
import type { Kind } from "./errors.ts"
import * as leases from "./leases.ts"
import type { Call } from "./requests.ts"
import * as responses from "./responses.ts"
import type { Settings } from "./settings.ts"
import * as watch from "./watch.ts"

export const make = Effect.fnUntraced(
  function*(
    settings: Settings
  ): Effect.fn.Return<{ readonly kv: KvBackend; readonly client: EtcdClient.EtcdClient }, never, Scope.Scope> {
    const to = yield* connection.make(settings)
    const client = yield* EtcdClient.make(settings, to.tokens)
    const watches = yield* watch.make(to, { deadline: settings.deadline })
    // The last to be added is the first to run: what is under way learns that the client is closed.
    yield* Effect.addFinalizer(() => to.shutdown)
    const kv: KvBackend = {
      execute: ((op: Op.Op) => execute(to, op)) as KvBackend["execute"],
      watch: (request) => watches.open(request),
      ...leases.make(to)
    }
    return { kv: settings.prefix === "" ? kv : Namespace.within(settings.prefix)(kv), client }
  }
)

const execute = (to: connection.Connection, op: Op.Op): Effect.Effect<Op.Response<Op.Op>, KvError.KvError> => {
  const problem = Op.check(op)
  if (problem !== undefined) return KvError.fail(new KvError.InvalidRequest({ message: problem }))
  switch (op._tag) {
    case "Range": {
      const send = connection.kv((service) => service.range, decodeRange, codec.encodeRange(op))
      return carry(to, { name: "range", kind: "read", hasLeader: op.serializable !== true, send })
    }
    case "Put": {
      const send = connection.kv((service) => service.put, decodePut, codec.encodePut(op))
      return carry(to, { name: "put", kind: "write", hasLeader: true, send })
    }
    case "Delete": {
      const send = connection.kv((service) => service.deleteRange, decodeDelete, codec.encodeDelete(op))
      return carry(to, { name: "delete", kind: "write", hasLeader: true, send })
    }
    case "Txn": {
      if (isConditionsOnly(op)) return Effect.map(execute(to, looking(op)), answerOf)
      const kind: Kind = Op.isWrite(op) ? "write" : "read"
      const send = connection.kv((service) => service.txn, decodeTxn, codec.encodeTxn(op))
      return carry(to, { name: "txn", kind, hasLeader: true, send })
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

const decodeRange = orNotUtf8(responses.decodeRange)
const decodePut = orNotUtf8(responses.decodePut)
const decodeDelete = orNotUtf8(responses.decodeDelete)
const decodeTxn = orNotUtf8(responses.decodeTxn)

const carry = <A>(to: connection.Connection, call: Call<A | NotUtf8>): Effect.Effect<A, KvError.KvError> =>
  Effect.flatMap(to.run(call), (answer) => decoded(call.kind, answer))
