/**
 * Helpers for small histories that are written by hand.
 */
import type * as Op from "@effect-kv/core/Op"
import { type Changes, History } from "@effect-kv/test-suite/verification"
import * as plain from "../src/verification/history/plain.ts"

export type Outcome = History.OpResponse | "unknown" | "not applied"

/** The moments of an invocation and a completion. */
export type Span = readonly [from: number, to: number]

/** The name of a client that does not matter. */
export type CallAt = readonly [Span, Op.Op, Outcome]

export const moment = (order: number): History.Moment => ({ order, nanos: BigInt(order) * 1_000_000n })

export const history = (...calls: ReadonlyArray<CallAt>): History.History => ({
  ...History.empty,
  calls: calls.map(([[from, to], op, outcome], id): History.Call => ({
    _tag: "Call",
    id,
    client: `client ${id}`,
    request: { _tag: "Execute", op: plain.op(op) },
    invoked: moment(from),
    completed: moment(to),
    outcome: outcome === "unknown"
      ? { _tag: "Interrupted" }
      : outcome === "not applied"
      ? { _tag: "Failed", reason: "Unavailable", outcome: "NotApplied", message: "" }
      : { _tag: "Responded", response: outcome }
  }))
})

export const put = (revision: bigint): History.OpResponse => ({ _tag: "Put", revision })

export const deleted = (
  revision: bigint,
  count: number,
  ...previous: ReadonlyArray<History.Row>
): History.OpResponse => ({ _tag: "Delete", revision, deleted: count, previous })

export const row = (
  key: string,
  value: string,
  modRevision: bigint,
  version = 1,
  createRevision = modRevision
): History.Row => ({
  key,
  value,
  createRevision,
  modRevision,
  version,
  lease: 0n
})

export const read = (revision: bigint, ...entries: ReadonlyArray<History.Row>): History.OpResponse => ({
  _tag: "Range",
  revision,
  entries,
  count: entries.length,
  more: false
})

export const txn = (
  revision: bigint,
  succeeded: boolean,
  ...responses: ReadonlyArray<History.OpResponse>
): History.OpResponse => ({
  _tag: "Txn",
  revision,
  succeeded,
  responses
})

export const written = ({ createRevision, key, lease, modRevision, value, version }: History.Row): Changes.Change => ({
  type: "put",
  key,
  valueBytes: new TextEncoder().encode(value as string),
  modRevision,
  createRevision,
  version: BigInt(version),
  lease
})

export const gone = (key: string, modRevision: bigint): Changes.Change => ({
  type: "delete",
  key,
  valueBytes: new Uint8Array(0),
  modRevision,
  createRevision: 0n,
  version: 0n,
  lease: 0n
})

export const keptAlive = (id: bigint, order: number): History.Call => ({
  _tag: "Call",
  id: 1000,
  client: "a",
  request: { _tag: "LeaseKeepAlive", id },
  invoked: moment(order),
  completed: moment(order + 1),
  outcome: { _tag: "Responded", response: { _tag: "Lease", id, ttlMillis: 1000 } }
})

export const kinds = (violations: ReadonlyArray<{ readonly kind: string }>) => violations.map(({ kind }) => kind)
