/**
 * Validation of operations by etcd's rules, with messages that say what to do.
 */
import type { Compare } from "../../values/Compare.ts"
import type { Value } from "../../values/Entry.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import type { Op, Put, Range, Txn } from "../../values/OpModel.ts"

export const checkOp = (op: Op, options?: { readonly maxTxnOps?: number | undefined }): string | undefined => {
  if (op._tag !== "Txn") return checkSingle(op)
  return checkTxn(op, options?.maxTxnOps ?? Number.POSITIVE_INFINITY) ??
    checkKeys(op)
}

const checkSingle = (op: Exclude<Op, Txn>): string | undefined => {
  switch (op._tag) {
    case "Put":
      return checkPut(op)
    case "Range":
      return KeyRange.invalid(op.range) ?? checkRangeOptions(op)
    case "Delete":
      return KeyRange.invalid(op.range)
  }
}

const checkPut = (op: Put): string | undefined => {
  const problem = KeyRange.invalidKey(op.key) ?? checkValue(op.key, op.value)
  if (problem !== undefined) return problem
  return op.lease === undefined || isInt64(op.lease) && op.lease !== 0n
    ? undefined
    : "a lease id must be a non-zero 64-bit integer; leave it out to attach none"
}

const checkValue = (key: string, value: Value): string | undefined => {
  if (typeof value === "string") {
    return value.isWellFormed()
      ? undefined
      : `the value for ${JSON.stringify(key)} has a lone surrogate; give well-formed Unicode, or bytes`
  }
  return value instanceof Uint8Array
    ? undefined
    : `the value for ${JSON.stringify(key)} must be a string or a Uint8Array`
}

const checkRangeOptions = (op: Range): string | undefined => {
  if (op.limit !== undefined && !(Number.isSafeInteger(op.limit) && op.limit > 0)) {
    return `a limit must be a positive integer, not ${op.limit}; leave it out to read everything`
  }
  return checkRevision("revision", op.revision) ??
    checkRevision("minModRevision", op.minModRevision) ??
    checkRevision("maxModRevision", op.maxModRevision) ??
    checkRevision("minCreateRevision", op.minCreateRevision) ??
    checkRevision("maxCreateRevision", op.maxCreateRevision)
}

const checkRevision = (name: string, revision: bigint | undefined): string | undefined =>
  revision === undefined || isInt64(revision) && revision > 0n
    ? undefined
    : `${name} must be a positive 64-bit integer, not ${revision}; leave it out for no bound`

const checkTxn = (txn: Txn, maxOps: number): string | undefined => {
  const longest = Math.max(txn.if.length, txn.then.length, txn.else.length)
  if (longest > maxOps) {
    return `the transaction has too many operations: ${longest}, but ${maxOps} are allowed ` +
      `(a nested transaction may hold what the outer ones leave)`
  }
  for (const compare of txn.if) {
    const problem = checkCompare(compare)
    if (problem !== undefined) return problem
  }
  for (const branch of [txn.then, txn.else]) {
    for (const op of branch) {
      const problem = op._tag === "Txn" ? checkTxn(op, maxOps - longest) : checkSingle(op)
      if (problem !== undefined) return problem
    }
  }
  return undefined
}

const checkCompare = (compare: Compare): string | undefined => {
  if (compare.target === "CreatedBefore") {
    return KeyRange.invalid(compare.range) ?? checkCreatedBefore(compare.revision)
  }
  const problem = KeyRange.invalidKey(compare.key)
  if (problem !== undefined) return problem
  switch (compare.target) {
    case "Value":
      return checkValue(compare.key, compare.value)
    case "Version":
      return Number.isSafeInteger(compare.value) ? undefined : "a version must be an integer"
    default:
      return isInt64(compare.value) ? undefined : "a revision or lease to compare with must be a 64-bit integer"
  }
}

const checkCreatedBefore = (revision: bigint): string | undefined =>
  isInt64(revision) && revision > 0n
    ? undefined
    : `a revision to be created before must be a positive 64-bit integer, not ${revision}`

const isInt64 = (n: bigint): boolean => BigInt.asIntN(64, n) === n

interface Writes {
  readonly puts: Set<string>
  readonly deletes: Array<KeyRange.KeyRange>
}

const checkKeys = (txn: Txn): string | undefined => {
  if (putsEachKeyOnce(txn.then, new Set()) && putsEachKeyOnce(txn.else, new Set())) return undefined
  const writes = collectWrites([txn])
  return typeof writes === "string" ? writes : undefined
}

/** Whether nothing is deleted and no key is put twice: then nothing can conflict. Most transactions are such. */
const putsEachKeyOnce = (ops: ReadonlyArray<Op>, puts: Set<string>): boolean => {
  for (const op of ops) {
    switch (op._tag) {
      case "Put":
        if (puts.has(op.key)) return false
        puts.add(op.key)
        break
      case "Delete":
        return false
      case "Txn":
        if (!putsEachKeyOnce(op.then, puts) || !putsEachKeyOnce(op.else, puts)) return false
        break
    }
  }
  return true
}

/** etcd's `checkIntervals` (server/etcdserver/api/v3rpc/key.go): the puts and deletes of a branch, or the conflict. */
const collectWrites = (ops: ReadonlyArray<Op>): Writes | string => {
  const puts = new Set<string>()
  const deletes: Array<KeyRange.KeyRange> = []
  for (const op of ops) {
    if (op._tag === "Delete") deletes.push(op.range)
  }
  const add = (key: string, exempt?: ReadonlySet<string>): string | undefined => {
    if (puts.has(key) && exempt?.has(key) !== true) {
      return `the key ${JSON.stringify(key)} is put twice in one transaction; put it once`
    }
    if (deletes.some((range) => KeyRange.contains(range, key))) {
      return `the key ${JSON.stringify(key)} is both put and deleted in one transaction; do one of them`
    }
    puts.add(key)
    return undefined
  }
  for (const op of ops) {
    if (op._tag !== "Txn") continue
    const inThen = collectWrites(op.then)
    if (typeof inThen === "string") return inThen
    const inElse = collectWrites(op.else)
    if (typeof inElse === "string") return inElse
    for (const key of inThen.puts) {
      const problem = add(key)
      if (problem !== undefined) return problem
    }
    // Only one of the branches runs, so both may put the same key.
    for (const key of inElse.puts) {
      const problem = add(key, inThen.puts)
      if (problem !== undefined) return problem
    }
    deletes.push(...inThen.deletes, ...inElse.deletes)
  }
  for (const op of ops) {
    if (op._tag !== "Put") continue
    const problem = add(op.key)
    if (problem !== undefined) return problem
  }
  return { puts, deletes }
}
