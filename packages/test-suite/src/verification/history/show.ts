/**
 * Records of a history as one line of text, for the messages of checkers.
 */
import type * as Compare from "@effect-kv/core/Compare"
import type * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Op from "@effect-kv/core/Op"
import type * as History from "./History.ts"
import { showRow } from "./rows.ts"
import { showValue } from "./values.ts"

export const showRecord = (record: History.Record): string => {
  switch (record._tag) {
    case "Call":
      return `${showCall(record)} -> ${showOutcome(record.outcome)} ${span(record.invoked, record.completed)}`
    case "Watch":
      return `#${record.id} ${record.client}: watch ${showRange(record.request.range)} ` +
        `${span(record.invoked, record.ended?.at)}`
    case "Holding":
      return `#${record.id} ${record.client}: held ${JSON.stringify(record.lock)} by token ${record.token} ` +
        `${span(record.acquired, record.ended?.at)} ${record.ended?.how ?? ""}`
    case "Effect":
      return `#${record.id} ${record.client}: on ${JSON.stringify(record.resource)} under ` +
        `${JSON.stringify(record.lock)} by token ${record.token} -> ${record.outcome} ` +
        `${span(record.invoked, record.completed)}`
  }
}

const span = (from: History.Moment, to: History.Moment | undefined): string =>
  `[${from.order}, ${to === undefined ? "..." : to.order}]`

/** The id, the client and the request of a call. */
export const showCall = (call: History.Call): string => `#${call.id} ${call.client}: ${showRequest(call.request)}`

const showRequest = (request: History.Request): string => {
  switch (request._tag) {
    case "Execute":
      return showOp(request.op)
    case "LeaseGrant":
      return `grant a lease of ${request.ttlMillis} ms`
    case "LeaseKeepAlive":
    case "LeaseRevoke":
    case "LeaseTimeToLive":
      return `${request._tag} ${request.id.toString(16)}`
  }
}

export const showOp = (op: Op.Op): string => {
  switch (op._tag) {
    case "Range":
      return `read ${showRange(op.range)}${op.revision === undefined ? "" : ` at ${op.revision}`}` +
        `${op.serializable === true ? " (serializable)" : ""}`
    case "Put":
      return `put ${JSON.stringify(op.key)} = ${showValue(op.value)}`
    case "Delete":
      return `delete ${showRange(op.range)}`
    case "Txn":
      return `txn if [${op.if.map(showCompare).join(", ")}] then [${op.then.map(showOp).join(", ")}] ` +
        `else [${op.else.map(showOp).join(", ")}]`
  }
}

export const showCompare = (compare: Compare.Compare): string =>
  compare.target === "CreatedBefore"
    ? `all of ${showRange(compare.range)} created before ${compare.revision}`
    : `${compare.target} of ${JSON.stringify(compare.key)} ${compare.operator} ` +
      `${compare.target === "Value" ? showValue(compare.value) : compare.value}`

const showRange = (range: KeyRange.KeyRange): string => {
  switch (range._tag) {
    case "Key":
      return JSON.stringify(range.key)
    case "HalfOpen":
      return `[${JSON.stringify(range.start)}, ${JSON.stringify(range.end)})`
    case "Prefix":
      return `${JSON.stringify(range.prefix)}*${
        range.from === range.prefix ? "" : ` from ${JSON.stringify(range.from)}`
      }`
  }
}

const showOutcome = (outcome: History.Outcome): string => {
  switch (outcome._tag) {
    case "Responded":
      return showResponse(outcome.response)
    case "Failed":
      return `${outcome.reason} (${outcome.outcome})`
    case "Interrupted":
    case "Pending":
      return outcome._tag.toLowerCase()
    case "Died":
      return `died: ${outcome.message.split("\n")[0]}`
  }
}

const showResponse = (response: History.Response): string => {
  switch (response._tag) {
    case "Range":
      return `revision ${response.revision}, ${response.count} keys: [${response.entries.map(showRow).join(", ")}]`
    case "Put":
      return `revision ${response.revision}${
        response.previous === undefined ? "" : `, was ${showRow(response.previous)}`
      }`
    case "Delete":
      return `revision ${response.revision}, ${response.deleted} deleted`
    case "Txn":
      return `revision ${response.revision}, ${response.succeeded ? "then" : "else"} ` +
        `[${response.responses.map(showResponse).join("; ")}]`
    case "Lease":
      return `lease ${response.id.toString(16)} of ${response.ttlMillis} ms`
    case "LeaseRevoked":
      return "revoked"
    case "LeaseStatus":
      return `lease ${response.id.toString(16)}, ${response.remainingMillis} ms left`
  }
}
