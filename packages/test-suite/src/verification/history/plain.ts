/**
 * Plain data for the requests and responses of a backend.
 */
import type * as Compare from "@effect-kv/core/Compare"
import type { Entry, Value } from "@effect-kv/core/Entry"
import type * as KvError from "@effect-kv/core/KvError"
import type * as Lease from "@effect-kv/core/Lease"
import type * as Op from "@effect-kv/core/Op"
import type * as Watch from "@effect-kv/core/Watch"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import type * as History from "./History.ts"

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** A string if the bytes are UTF-8, otherwise bytes, so that equal values have equal forms. */
export const value = (value: Value): Value => {
  if (typeof value === "string") return value
  try {
    return utf8.decode(value)
  } catch {
    return new Uint8Array(value)
  }
}

/** The object without undefined properties. */
const compact = <A extends object>(fields: A): A =>
  Object.fromEntries(Object.entries(fields).filter(([, field]) => field !== undefined)) as A

export const op = (op: Op.Op): Op.Op => {
  switch (op._tag) {
    case "Range":
      return compact({ ...op, order: op.order === undefined ? undefined : compact({ ...op.order }) })
    case "Put":
      return compact({ _tag: "Put", key: op.key, value: value(op.value), lease: op.lease, previous: op.previous })
    case "Delete":
      return compact({ ...op })
    case "Txn":
      return { _tag: "Txn", if: op.if.map(condition), then: op.then.map(plainOp), else: op.else.map(plainOp) }
  }
}

const plainOp = op

const condition = (compare: Compare.Compare): Compare.Compare =>
  compare.target === "Value"
    ? { target: "Value", key: compare.key, operator: compare.operator, value: value(compare.value) }
    : { ...compare }

export const row = (entry: Entry): History.Row => ({
  key: entry.key,
  value: value(entry.value),
  createRevision: entry.createRevision,
  modRevision: entry.modRevision,
  version: entry.version,
  lease: Option.getOrElse(entry.lease, () => 0n)
})

const previous = (entry: Option.Option<Entry>): { readonly previous?: History.Row } =>
  Option.isSome(entry) ? { previous: row(entry.value) } : {}

export const response = (response: Op.Response<Op.Op>): History.OpResponse => {
  switch (response._tag) {
    case "Range":
      return { ...response, entries: response.entries.map(row) }
    case "Put":
      return { _tag: "Put", revision: response.revision, ...previous(response.previous) }
    case "Delete":
      return { ...response, previous: response.previous.map(row) }
    case "Txn":
      return { ...response, responses: response.responses.map(plainResponse) }
  }
}

const plainResponse = response

export const lease = (lease: Lease.Lease): History.Response => ({
  _tag: "Lease",
  id: lease.id,
  ttlMillis: Duration.toMillis(lease.ttl)
})

export const leaseStatus = (status: Lease.Status): History.Response => ({
  _tag: "LeaseStatus",
  id: status.id,
  grantedTtlMillis: Duration.toMillis(status.grantedTtl),
  remainingMillis: Duration.toMillis(status.remaining),
  keys: [...status.keys]
})

export const watchRequest = (request: Watch.WatchRequest): Watch.WatchRequest => compact({ ...request })

export const batch = (batch: Watch.Revision, at: History.Moment): History.Batch => ({
  at,
  revision: batch.revision,
  events: batch.events.map(event)
})

const event = (event: Watch.Event): History.Event =>
  event._tag === "Put"
    ? {
      _tag: "Put",
      key: event.key,
      revision: event.revision,
      entry: row(event.entry),
      isCreate: event.isCreate,
      ...previous(event.previous)
    }
    : { _tag: "Delete", key: event.key, revision: event.revision, ...previous(event.previous) }

/** How a call failed, was interrupted or died. */
export const failed = (
  cause: Cause.Cause<KvError.KvError>
): Exclude<History.Outcome, { readonly _tag: "Responded" | "Pending" }> => {
  const error = Cause.findErrorOption(cause)
  if (Option.isSome(error)) return failure(error.value)
  return Cause.hasInterruptsOnly(cause) ? { _tag: "Interrupted" } : { _tag: "Died", message: Cause.pretty(cause) }
}

/** How a watch failed. */
export const watchFailed = (
  cause: Cause.Cause<KvError.KvError>
): NonNullable<History.WatchCall["ended"]>["how"] => {
  const reason = Option.map(Cause.findErrorOption(cause), (error) => error.reason)
  const how = failed(cause)
  return how._tag === "Failed" && Option.isSome(reason) && reason.value._tag === "Compacted"
    ? {
      ...how,
      ...Option.match(reason.value.compactRevision, {
        onNone: () => ({}),
        onSome: (compactRevision) => ({ compactRevision })
      })
    }
    : how
}

const failure = (error: KvError.KvError): History.Failure => ({
  _tag: "Failed",
  reason: error.reason._tag,
  outcome: error.outcome,
  message: error.reason.message
})
