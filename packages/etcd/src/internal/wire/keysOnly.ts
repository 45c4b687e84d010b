/**
 * Leases of `keysOnly` reads: their entries have none, on every version of etcd.
 *
 * etcd 3.7 serves such reads from its index, which holds no leases (etcd issue 22209). Older versions return leases. A
 * program must not depend on the difference.
 */
import * as Entry from "@effect-kv/core/Entry"
import type * as Op from "@effect-kv/core/Op"
import * as Option from "effect/Option"

/** Whether the operation or a nested operation is a `keysOnly` read. */
export const isKeysOnly = (op: Op.Op): boolean =>
  op._tag === "Range"
    ? op.keysOnly === true
    : op._tag === "Txn" && (op.then.some(isKeysOnly) || op.else.some(isKeysOnly))

/** The response without the leases of its `keysOnly` entries. */
export const withoutLeases = (op: Op.Op, response: Op.Response<Op.Op>): Op.Response<Op.Op> => {
  if (op._tag === "Range" && response._tag === "Range") {
    return op.keysOnly === true ? { ...response, entries: response.entries.map(withoutLease) } : response
  }
  if (op._tag !== "Txn" || response._tag !== "Txn") return response
  const ops = response.succeeded ? op.then : op.else
  return { ...response, responses: response.responses.map((inner, i) => withoutLeases(ops[i]!, inner)) }
}

const withoutLease = (entry: Entry.Entry): Entry.Entry =>
  Option.isNone(entry.lease) ? entry : Entry.make({
    key: entry.key,
    value: "",
    createRevision: entry.createRevision,
    modRevision: entry.modRevision,
    version: entry.version,
    lease: Option.none()
  })
