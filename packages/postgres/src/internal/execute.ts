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
import type { Connection } from "./connection.ts"
import { decode } from "./decode.ts"
import { encode, type Encoded } from "./encode.ts"
import * as EntryWrite from "./entryWrite.ts"
import { type Position, replaced, type Sent } from "./identity.ts"
import { declaredVoid, type Item, kind, nOf, rejection } from "./items.ts"
import { responseFrom, writtenBy } from "./lostResponse.ts"
import { isSerializable, type Replica } from "./replica.ts"
import type { Row, Statement } from "./statement.ts"

type AnyResponse = Op.Response<Op.Op>

export const execute = (
  to: Connection,
  replica: Replica | undefined,
  op: Op.Op
): Effect.Effect<AnyResponse, KvError.KvError> =>
  Effect.suspend(() => {
    const encoded = encode(op)
    if (encoded instanceof KvError.KvError) return Effect.fail(encoded)
    if (Op.isWrite(op)) return write(to, op, requestOf(to, op, encoded))
    const isFromReplica = replica !== undefined && isSerializable(op)
    if (!isFromReplica && isGet(op)) return get(to, op.range.key, encoded.data[0]!)
    const read = Effect.map(to.read(calls.read(to, encoded), calls.positionIn), calls.itemsOf)
    return Effect.flatMap(isFromReplica ? replica.read(encoded, read) : read, (items) => decoded(op, items))
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
  lease: bigint,
  epoch: bigint
]

/** The edge to SQL. */
const entryRowOf = (rows: ReadonlyArray<Row>): EntryRow => rows[0] as unknown as EntryRow

const positionInEntry = (rows: ReadonlyArray<Row>): Position => {
  const row = entryRowOf(rows)
  return { revision: row[0], epoch: row[6] }
}

const get = (to: Connection, key: string, bytes: Uint8Array): Effect.Effect<AnyResponse, KvError.KvError> =>
  Effect.map(to.read(calls.getEntry(to, bytes), positionInEntry), (rows) => got(key, entryRowOf(rows)))

const got = (
  key: string,
  [revision, value, createRevision, modRevision, version, lease]: EntryRow
): AnyResponse => {
  const entries = value === null
    ? []
    : [Entry.make({ key, value, createRevision, modRevision, version: Number(version), lease: Entry.leaseOf(lease) })]
  return Op.rangeResponse({ revision, entries, count: entries.length, more: false })
}

const decoded = (op: Op.Op, items: ReadonlyArray<Item>): Effect.Effect<AnyResponse, KvError.KvError> => {
  const rejected = rejection(items)
  return rejected === undefined ? Effect.succeed(decode(op, items)) : Effect.fail(rejected)
}

/** A write as a statement, and what its rows mean. */
interface WriteRequest {
  /** `sent` is what the client knows. */
  readonly statement: (id: string, sent: Sent) => Statement
  readonly positionIn: (rows: ReadonlyArray<Row>) => Position | undefined
  readonly response: (rows: ReadonlyArray<Row>) => Effect.Effect<AnyResponse, KvError.KvError>
}

const requestOf = (to: Connection, op: Op.Op, encoded: Encoded): WriteRequest => {
  const { entryWrite, puts } = encoded
  if (entryWrite !== undefined) {
    return {
      statement: (id, sent) => calls.writeEntry(to, entryWrite, id, sent),
      positionIn: EntryWrite.positionIn,
      response: (rows) => {
        const response = EntryWrite.responseOf(op, rows)
        return response instanceof KvError.KvError ? Effect.fail(response) : Effect.succeed(response)
      }
    }
  }
  return puts === undefined
    ? {
      statement: (id, sent) => calls.write(to, encoded, id, sent),
      positionIn: calls.positionIn,
      response: (rows) => decoded(op, calls.itemsOf(rows))
    }
    : {
      statement: (id, sent) => calls.putEntries(to, puts, id, sent),
      positionIn: positionOfPuts,
      response: (rows) => Effect.succeed(putResponse(op, positionOfPuts(rows).revision))
    }
}

/** The edge to SQL. */
const positionOfPuts = ([row]: ReadonlyArray<Row>): Position => ({
  revision: row![1] as bigint,
  epoch: row![2] as bigint
})

const putResponse = (op: Op.Op, revision: bigint): AnyResponse => {
  const response = Op.putResponse({ revision, previous: Option.none() })
  return op._tag === "Txn"
    ? Op.txnResponse({ revision, succeeded: true, responses: op.then.map(() => response) })
    : response
}

/** `generation` is that in which the call began, if this is not its first attempt. */
const write = (
  to: Connection,
  op: Op.Op,
  request: WriteRequest,
  generation?: number
): Effect.Effect<AnyResponse, KvError.KvError> =>
  Effect.suspend(() => {
    const { sent } = to.identity
    const replaced = generation === undefined ? undefined : to.identity.replacedSince(generation, "NotApplied")
    if (replaced !== undefined) return Effect.fail(replaced)
    const id = crypto.randomUUID()
    const resolve = (remaining: Duration.Duration) => Deadline.within(outcome(to, op, request, { id, sent }), remaining)
    const again = (remaining: Duration.Duration) => Deadline.within(repeated(to, op, request, sent), remaining)
    return Effect.flatMap(
      to.write(request.statement(id, sent), resolve, request.positionIn, again),
      (result) => "_tag" in result ? Effect.succeed(result) : request.response(result)
    )
  })

/**
 * Makes a write again that the store rejected as void. Its client has not given it up, but knew too little: see
 * `schema/voids.ts`. The rejection has shown it the present revision, so the write is rejected again only if ids of later
 * revisions were deleted meanwhile.
 */
const repeated = (
  to: Connection,
  op: Op.Op,
  request: WriteRequest,
  { generation, revision }: Sent
): Effect.Effect<AnyResponse, KvError.KvError> =>
  Effect.suspend(() =>
    to.identity.sent.revision > revision || to.identity.sent.generation !== generation
      ? write(to, op, request, generation)
      : Effect.fail(declaredVoid())
  )

interface Lost {
  readonly id: string
  /** What was known when it was sent. */
  readonly sent: Sent
}

/** The outcome of a write whose response was lost. A write that was not applied is made again. */
const outcome = (
  to: Connection,
  op: Op.Op,
  request: WriteRequest,
  { id, sent: { generation, revision: since } }: Lost
): Effect.Effect<AnyResponse, KvError.KvError> => {
  // A search in another store would find nothing, and the write would be made again.
  const unlessReplaced = Effect.suspend(() => {
    const error = to.identity.replacedSince(generation, "Unknown")
    return error === undefined ? Effect.void : Effect.fail(error)
  })
  const search = Effect.andThen(
    unlessReplaced,
    Effect.mapError(
      to.read(calls.resolve(to, id, since), calls.positionIn),
      (error) =>
        error.reason._tag === "StoreReplaced"
          ? replaced(error.reason.message, "Unknown")
          : error.reason._tag === "Closed" ?
          indeterminate("the client was closed") :
          indeterminate(
            "the connection to Postgres broke before the response arrived, and the outcome could not be read: " +
              error.reason.message
          )
    )
  )
  return Effect.flatMap(
    Effect.tap(search, () => unlessReplaced),
    (rows) => {
      const items = calls.itemsOf(rows)
      const last = items[items.length - 1]!
      to.metrics?.resolved(
        last[0] === kind.void ? "not applied" : last[0] === kind.revision ? "applied" : "unknown"
      )
      switch (last[0]) {
        case kind.void:
          return write(to, op, request, generation)
        case kind.revision: {
          const revision = nOf(last)
          const response = responseFrom(op, writtenBy(items, revision))
          return response === undefined
            ? Effect.fail(indeterminate(`the write was applied at revision ${revision}, but its response was lost`))
            : Effect.succeed(response)
        }
        case kind.future:
          return Effect.fail(indeterminate("the response was lost, and the store has gone back"))
        default:
          return Effect.fail(
            indeterminate("the response was lost, and the history that would show the outcome is compacted")
          )
      }
    }
  )
}

const indeterminate = (message: string): KvError.KvError => KvError.make(new KvError.Indeterminate({ message }))
