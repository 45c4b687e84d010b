/**
 * Entries of a `keysOnly` read carry no lease, on every version of etcd.
 *
 * etcd 3.7 answers such reads from its index, which does not hold leases (etcd issue 22209); 3.6 and older report them. A
 * program must not depend on the difference.
 */
import * as Entry from "@effect-kv/core/Entry"
import type * as Op from "@effect-kv/core/Op"
import * as Option from "effect/Option"

/** Whether the operation, or one nested in it, is a `keysOnly` read. */
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
