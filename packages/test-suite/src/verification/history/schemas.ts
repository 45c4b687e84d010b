/**
 * Schemas of the records of a history, to save and load them.
 */
import type * as Compare from "@effect-kv/core/Compare"
import type { Value as EntryValue } from "@effect-kv/core/Entry"
import type * as KeyRange from "@effect-kv/core/KeyRange"
import * as KvError from "@effect-kv/core/KvError"
import type * as Op from "@effect-kv/core/Op"
import type * as Watch from "@effect-kv/core/Watch"
import * as Schema from "effect/Schema"
import * as SchemaTransformation from "effect/SchemaTransformation"
import type * as History from "./records.ts"

/** Bytes are an object in JSON, so they differ from every string. */
const Bytes = Schema.Struct({ bytes: Schema.Uint8ArrayFromBase64 }).pipe(
  Schema.decodeTo(
    Schema.Uint8Array,
    SchemaTransformation.transform({ decode: ({ bytes }) => bytes, encode: (bytes) => ({ bytes }) })
  )
)

const Value: Schema.Codec<EntryValue, unknown> = Schema.Union([Schema.String, Bytes])

const Moment: Schema.Codec<History.Moment, unknown> = Schema.Struct({ order: Schema.Number, nanos: Schema.BigInt })

const Row: Schema.Codec<History.Row, unknown> = Schema.Struct({
  key: Schema.String,
  value: Value,
  createRevision: Schema.BigInt,
  modRevision: Schema.BigInt,
  version: Schema.Number,
  lease: Schema.BigInt
})

// -----------------------------------------------------------------------------
// operations
// -----------------------------------------------------------------------------

const Range: Schema.Codec<KeyRange.KeyRange, unknown> = Schema.Union([
  Schema.TaggedStruct("Key", { key: Schema.String }),
  Schema.TaggedStruct("HalfOpen", { start: Schema.String, end: Schema.String }),
  Schema.TaggedStruct("Prefix", { prefix: Schema.String, from: Schema.String })
])

const Operator = Schema.Literals(["=", "!=", "<", ">"])

const Condition: Schema.Codec<Compare.Compare, unknown> = Schema.Union([
  Schema.Struct({ target: Schema.Literal("Value"), key: Schema.String, operator: Operator, value: Value }),
  Schema.Struct({ target: Schema.Literal("Version"), key: Schema.String, operator: Operator, value: Schema.Number }),
  Schema.Struct({
    target: Schema.Literals(["CreateRevision", "ModRevision", "Lease"]),
    key: Schema.String,
    operator: Operator,
    value: Schema.BigInt
  }),
  Schema.Struct({ target: Schema.Literal("CreatedBefore"), range: Range, revision: Schema.BigInt })
])

const optionalRevision = Schema.optional(Schema.BigInt)
const flag = Schema.optional(Schema.Boolean)

const Operation: Schema.Codec<Op.Op, unknown> = Schema.Union([
  Schema.TaggedStruct("Range", {
    range: Range,
    limit: Schema.optional(Schema.Number),
    order: Schema.optional(Schema.Struct({
      by: Schema.Literals(["key", "createRevision", "modRevision", "version"]),
      direction: Schema.optional(Schema.Literals(["ascending", "descending"]))
    })),
    keysOnly: flag,
    countOnly: flag,
    revision: optionalRevision,
    serializable: flag,
    minModRevision: optionalRevision,
    maxModRevision: optionalRevision,
    minCreateRevision: optionalRevision,
    maxCreateRevision: optionalRevision
  }),
  Schema.TaggedStruct("Put", { key: Schema.String, value: Value, lease: optionalRevision, previous: flag }),
  Schema.TaggedStruct("Delete", { range: Range, previous: flag }),
  Schema.TaggedStruct("Txn", {
    if: Schema.Array(Condition),
    then: Schema.Array(Schema.suspend(() => Operation)),
    else: Schema.Array(Schema.suspend(() => Operation))
  })
])

// -----------------------------------------------------------------------------
// calls
// -----------------------------------------------------------------------------

const Request: Schema.Codec<History.Request, unknown> = Schema.Union([
  Schema.TaggedStruct("Execute", { op: Operation }),
  Schema.TaggedStruct("LeaseGrant", { ttlMillis: Schema.Number, id: Schema.optionalKey(Schema.BigInt) }),
  Schema.TaggedStruct("LeaseKeepAlive", { id: Schema.BigInt }),
  Schema.TaggedStruct("LeaseRevoke", { id: Schema.BigInt }),
  Schema.TaggedStruct("LeaseTimeToLive", { id: Schema.BigInt, keys: Schema.Boolean })
])

const rangeResponse = Schema.TaggedStruct("Range", {
  revision: Schema.BigInt,
  entries: Schema.Array(Row),
  count: Schema.Number,
  more: Schema.Boolean
})
const putResponse = Schema.TaggedStruct("Put", { revision: Schema.BigInt, previous: Schema.optionalKey(Row) })
const deleteResponse = Schema.TaggedStruct("Delete", {
  revision: Schema.BigInt,
  deleted: Schema.Number,
  previous: Schema.Array(Row)
})
const txnResponse = Schema.TaggedStruct("Txn", {
  revision: Schema.BigInt,
  succeeded: Schema.Boolean,
  responses: Schema.Array(Schema.suspend((): Schema.Codec<History.OpResponse, unknown> => OpResponse))
})

const OpResponse: Schema.Codec<History.OpResponse, unknown> = Schema.Union([
  rangeResponse,
  putResponse,
  deleteResponse,
  txnResponse
])

const Response: Schema.Codec<History.Response, unknown> = Schema.Union([
  rangeResponse,
  putResponse,
  deleteResponse,
  txnResponse,
  Schema.TaggedStruct("Lease", { id: Schema.BigInt, ttlMillis: Schema.Number }),
  Schema.TaggedStruct("LeaseRevoked", {}),
  Schema.TaggedStruct("LeaseStatus", {
    id: Schema.BigInt,
    grantedTtlMillis: Schema.Number,
    remainingMillis: Schema.Number,
    keys: Schema.Array(Schema.String)
  })
])

const reasons = KvError.Reason.members.map((member) => member.fields._tag.schema.literal)

const failure = {
  reason: Schema.Literals(reasons),
  outcome: Schema.Literals(["NotApplied", "Unknown"]),
  message: Schema.String
}

const Interrupted = Schema.TaggedStruct("Interrupted", {})
const Died = Schema.TaggedStruct("Died", { message: Schema.String })

const Outcome: Schema.Codec<History.Outcome, unknown> = Schema.Union([
  Schema.TaggedStruct("Responded", { response: Response }),
  Schema.TaggedStruct("Failed", failure),
  Interrupted,
  Died,
  Schema.TaggedStruct("Pending", {})
])

export const Call: Schema.Codec<History.Call, unknown> = Schema.TaggedStruct("Call", {
  id: Schema.Number,
  client: Schema.String,
  request: Request,
  invoked: Moment,
  completed: Schema.optionalKey(Moment),
  outcome: Outcome
})

// -----------------------------------------------------------------------------
// watches
// -----------------------------------------------------------------------------

const Event: Schema.Codec<History.Event, unknown> = Schema.Union([
  Schema.TaggedStruct("Put", {
    key: Schema.String,
    revision: Schema.BigInt,
    entry: Row,
    isCreate: Schema.Boolean,
    previous: Schema.optionalKey(Row)
  }),
  Schema.TaggedStruct("Delete", {
    key: Schema.String,
    revision: Schema.BigInt,
    previous: Schema.optionalKey(Row)
  })
])

const WatchRequest: Schema.Codec<Watch.WatchRequest, unknown> = Schema.Struct({
  range: Range,
  startRevision: optionalRevision,
  previous: flag,
  only: Schema.optional(Schema.Literals(["Put", "Delete"]))
})

export const WatchCall: Schema.Codec<History.WatchCall, unknown> = Schema.TaggedStruct("Watch", {
  id: Schema.Number,
  client: Schema.String,
  request: WatchRequest,
  invoked: Moment,
  confirmed: Schema.optionalKey(Schema.Struct({ at: Moment, revision: Schema.BigInt })),
  batches: Schema.Array(Schema.Struct({ at: Moment, revision: Schema.BigInt, events: Schema.Array(Event) })),
  ended: Schema.optionalKey(Schema.Struct({
    at: Moment,
    how: Schema.Union([
      Schema.TaggedStruct("Closed", {}),
      Schema.TaggedStruct("Failed", { ...failure, compactRevision: Schema.optionalKey(Schema.BigInt) }),
      Interrupted,
      Died
    ])
  }))
})

// -----------------------------------------------------------------------------
// locks
// -----------------------------------------------------------------------------

export const Holding: Schema.Codec<History.Holding, unknown> = Schema.TaggedStruct("Holding", {
  id: Schema.Number,
  client: Schema.String,
  lock: Schema.String,
  token: Schema.BigInt,
  acquired: Moment,
  ended: Schema.optionalKey(Schema.Struct({ at: Moment, how: Schema.Literals(["Released", "Lost"]) }))
})

export const FencedEffect: Schema.Codec<History.FencedEffect, unknown> = Schema.TaggedStruct("Effect", {
  id: Schema.Number,
  client: Schema.String,
  lock: Schema.String,
  token: Schema.BigInt,
  resource: Schema.String,
  invoked: Moment,
  completed: Schema.optionalKey(Moment),
  outcome: Schema.Literals(["Accepted", "Rejected", "Unknown"]),
  revision: Schema.optionalKey(Schema.BigInt)
})
