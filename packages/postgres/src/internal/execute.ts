/**
 * The execution of an operation: one call of a function, and if the response of a write is lost, the search for its
 * outcome.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as Entry from "@effect-kv/core/Entry"
import * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as calls from "./calls.ts"
import type { Connection, Row, Statement } from "./connection.ts"
import { decode } from "./decode.ts"
import { encode, type Encoded } from "./encode.ts"
import type { Sent } from "./identity.ts"
import { type Item, kind, nOf, rejection } from "./items.ts"
import { responseFrom, writtenBy } from "./lostResponse.ts"

type AnyResponse = Op.Response<Op.Op>

export const execute = (to: Connection, op: Op.Op): Effect.Effect<AnyResponse, KvError.KvError> =>
  Effect.suspend(() => {
    const encoded = encode(op)
    if (encoded instanceof KvError.KvError) return Effect.fail(encoded)
    if (Op.isWrite(op)) return write(to, op, requestOf(to, op, encoded))
    if (isGet(op)) return get(to, op.range.key, encoded.data[0]!)
    const { sent } = to.identity
    return Effect.flatMap(
      to.read(calls.read(to, encoded)),
      (rows) => decoded(to, op, calls.itemsOf(rows), sent, "read")
    )
  })

/** A read of one key as it is now: the most frequent operation, with a function of its own. */
const isGet = (op: Op.Op): op is Op.Range & { readonly range: { readonly _tag: "Key" } } =>
  op._tag === "Range" && op.range._tag === "Key" && op.revision === undefined && op.keysOnly !== true &&
  op.countOnly !== true && op.minModRevision === undefined && op.maxModRevision === undefined &&
  op.minCreateRevision === undefined && op.maxCreateRevision === undefined

type EntryRow = readonly [
  revision: bigint,
  value: Uint8Array | null,
  createRevision: bigint,
  modRevision: bigint,
  version: bigint,
  lease: bigint
]

const get = (to: Connection, key: string, bytes: Uint8Array): Effect.Effect<AnyResponse, KvError.KvError> =>
  Effect.suspend(() => {
    const { sent } = to.identity
    return Effect.flatMap(
      to.read(calls.getEntry(to, bytes)),
      (rows) => got(to, key, rows[0] as unknown as EntryRow, sent)
    )
  })

const got = (
  to: Connection,
  key: string,
  [revision, value, createRevision, modRevision, version, lease]: EntryRow,
  sent: Sent
): Effect.Effect<AnyResponse, KvError.KvError> => {
  const replaced = to.identity.observe(revision, sent, "read")
  if (replaced !== undefined) return Effect.fail(replaced)
  const entries = value === null
    ? []
    : [Entry.make({ key, value, createRevision, modRevision, version: Number(version), lease: Entry.leaseOf(lease) })]
  return Effect.succeed(Op.rangeResponse({ revision, entries, count: entries.length, more: false }))
}

const decoded = (
  to: Connection,
  op: Op.Op,
  items: ReadonlyArray<Item>,
  sent: Sent,
  kind: "read" | "write"
): Effect.Effect<AnyResponse, KvError.KvError> => {
  const rejected = rejection(items)
  if (rejected !== undefined) return Effect.fail(rejected)
  const response = decode(op, items)
  const replaced = to.identity.observe(response.revision, sent, kind)
  return replaced === undefined ? Effect.succeed(response) : Effect.fail(replaced)
}

/** A write as a statement, and what its rows mean. */
interface WriteRequest {
  /** `since` is the greatest known revision. */
  readonly statement: (request: string, since: bigint) => Statement
  readonly response: (rows: ReadonlyArray<Row>, sent: Sent) => Effect.Effect<AnyResponse, KvError.KvError>
}

const requestOf = (to: Connection, op: Op.Op, encoded: Encoded): WriteRequest => {
  const { puts } = encoded
  return puts === undefined
    ? {
      statement: (request, since) => calls.write(to, encoded, request, since),
      response: (rows, sent) => decoded(to, op, calls.itemsOf(rows), sent, "write")
    }
    : {
      statement: (request, since) => calls.putEntries(to, puts, request, since),
      response: (rows, sent) => putAt(to, op, rows[0]![0] as bigint, sent)
    }
}

const putAt = (
  to: Connection,
  op: Op.Op,
  revision: bigint,
  sent: Sent
): Effect.Effect<AnyResponse, KvError.KvError> => {
  const replaced = to.identity.observe(revision, sent, "write")
  return replaced === undefined ? Effect.succeed(putResponse(op, revision)) : Effect.fail(replaced)
}

const putResponse = (op: Op.Op, revision: bigint): AnyResponse => {
  const response = Op.putResponse({ revision, previous: Option.none() })
  return op._tag === "Txn"
    ? Op.txnResponse({ revision, succeeded: true, responses: op.then.map(() => response) })
    : response
}

const write = (to: Connection, op: Op.Op, write: WriteRequest): Effect.Effect<AnyResponse, KvError.KvError> =>
  Effect.suspend(() => {
    const request = crypto.randomUUID()
    const { sent } = to.identity
    const resolve = (remaining: Duration.Duration) =>
      Deadline.within(outcome(to, op, write, { request, sent }), remaining)
    return Effect.flatMap(
      to.write(write.statement(request, sent.revision), resolve),
      (result) => "_tag" in result ? Effect.succeed(result) : write.response(result, sent)
    )
  })

interface Lost {
  readonly request: string
  readonly sent: Sent
}

/** The outcome of a write whose response was lost. A write that was not applied is made again. */
const outcome = (
  to: Connection,
  op: Op.Op,
  again: WriteRequest,
  { request, sent }: Lost
): Effect.Effect<AnyResponse, KvError.KvError> =>
  Effect.flatMap(
    Effect.mapError(to.read(calls.resolve(to, request, sent.revision)), (error) =>
      error.reason._tag === "Closed" ? indeterminate("the client was closed") : indeterminate(
        "the connection to Postgres broke before the response arrived, and the outcome could not be read: " +
          error.reason.message
      )),
    (rows) => {
      const items = calls.itemsOf(rows)
      const last = items[items.length - 1]!
      to.metrics?.resolved(
        last[0] === kind.void ? "not applied" : last[0] === kind.revision ? "applied" : "unknown"
      )
      switch (last[0]) {
        case kind.void:
          return write(to, op, again)
        case kind.revision: {
          const revision = nOf(last)
          const replaced = to.identity.observe(revision, sent, "write")
          if (replaced !== undefined) {
            return Effect.fail(replaced)
          }
          const response = responseFrom(op, writtenBy(items, revision))
          return response === undefined
            ? Effect.fail(indeterminate(`the write was applied at revision ${revision}, but its response was lost`))
            : Effect.succeed(response)
        }
        case kind.future:
          return Effect.fail(
            to.identity.observe(nOf(last), sent, "write") ?? indeterminate("the response was lost")
          )
        default:
          return Effect.fail(
            indeterminate("the response was lost, and the history that would show the outcome is compacted")
          )
      }
    }
  )

const indeterminate = (message: string): KvError.KvError => KvError.make(new KvError.Indeterminate({ message }))
