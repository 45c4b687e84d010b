/**
 * Components of a history: groups of keys that no operation connects.
 */
import type * as Compare from "@effect-kv/core/Compare"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Op from "@effect-kv/core/Op"
import * as History from "../history/History.ts"
import { isLinearizableRead } from "./responses.ts"

/** A participant of a search: a call or the end of a lease. */
export type Participant =
  | { readonly _tag: "Call"; readonly call: History.Call }
  | { readonly _tag: "LeaseEnd"; readonly lease: bigint; readonly invoked: number }

/** A group of keys, and all their calls and ends of leases. */
export interface Component {
  readonly keys: ReadonlySet<string>
  readonly participants: ReadonlyArray<Participant>
}

/** The components of the calls, on a store with the given initial entries. */
export const components = (
  calls: ReadonlyArray<History.Call>,
  initial: ReadonlyArray<History.Row>
): ReadonlyArray<Component> => {
  const ops = calls.filter(History.isOpCall).filter(isJudged)
  const keys = allKeys(ops, initial.map((row) => row.key))
  const leases = leasesOf(calls, ops, initial)
  const groups = new UnionFind()
  const touched = new Map<History.Call, ReadonlyArray<string>>()
  const connect = (call: History.Call, names: ReadonlyArray<string>) => {
    touched.set(call, names)
    names.forEach((name) => groups.union(names[0]!, name))
  }
  for (const call of ops) connect(call, keysOf(call.request.op, keys).map(keyName))
  for (const [lease, { attached, calls }] of leases) {
    const names = [leaseName(lease), ...Array.from(attached, keyName)]
    for (const call of calls) connect(call, names)
    names.forEach((name) => groups.union(names[0]!, name))
  }

  const participants = new Map<string, Array<Participant>>()
  const add = (name: string | undefined, participant: Participant) => {
    // A call that only touches keys that were never written is a component of its own.
    const root = name === undefined ? "" : groups.find(name)
    const group = participants.get(root)
    if (group === undefined) participants.set(root, [participant])
    else group.push(participant)
  }
  for (const call of calls) if (touched.has(call)) add(touched.get(call)![0], { _tag: "Call", call })
  for (const [lease, { attached, since }] of leases) {
    if (attached.size > 0) add(leaseName(lease), { _tag: "LeaseEnd", lease, invoked: since })
  }
  const keysByRoot = Map.groupBy(keys, (key) => groups.find(keyName(key)))
  return Array.from(participants, ([root, participants]) => ({
    keys: new Set(keysByRoot.get(root)),
    participants
  }))
}

const keyName = (key: string): string => `key ${key}`
const leaseName = (lease: bigint): string => `lease ${lease}`

/** Leaves out rejected calls, which changed nothing, and reads that may be stale or are at past revisions. */
const isJudged = (call: History.OpCall): boolean => {
  const { op } = call.request
  if (History.isUnknown(call)) return Op.isWrite(op)
  return call.outcome._tag === "Responded" && isLinearizableRead(op)
}

// -----------------------------------------------------------------------------
// keys
// -----------------------------------------------------------------------------

const parts = (
  op: Op.Op
): { readonly keys: ReadonlyArray<string>; readonly ranges: ReadonlyArray<KeyRange.KeyRange> } => {
  switch (op._tag) {
    case "Put":
      return { keys: [op.key], ranges: [] }
    case "Range":
      return op.revision === undefined ? { keys: [], ranges: [op.range] } : { keys: [], ranges: [] }
    case "Delete":
      return { keys: [], ranges: [op.range] }
    case "Txn": {
      const inner = [...op.then, ...op.else].map(parts)
      return {
        keys: [...op.if.flatMap(keyOfCondition), ...inner.flatMap(({ keys }) => keys)],
        ranges: [...op.if.flatMap(rangeOfCondition), ...inner.flatMap(({ ranges }) => ranges)]
      }
    }
  }
}

const keyOfCondition = (compare: Compare.Compare): ReadonlyArray<string> =>
  compare.target === "CreatedBefore" ? [] : [compare.key]

const rangeOfCondition = (compare: Compare.Compare): ReadonlyArray<KeyRange.KeyRange> =>
  compare.target === "CreatedBefore" ? [compare.range] : []

const allKeys = (calls: ReadonlyArray<History.OpCall>, initial: ReadonlyArray<string>): ReadonlyArray<string> => {
  const keys = new Set(initial)
  for (const call of calls) {
    const { keys: named, ranges } = parts(call.request.op)
    for (const key of named) keys.add(key)
    for (const range of ranges) if (range._tag === "Key") keys.add(range.key)
  }
  return Array.from(keys).sort(KeyRange.compareKeys)
}

const keysOf = (op: Op.Op, all: ReadonlyArray<string>): ReadonlyArray<string> => {
  const { keys, ranges } = parts(op)
  return [
    ...keys,
    ...ranges.flatMap((range) =>
      range._tag === "Key" ? [range.key] : all.filter((key) => KeyRange.contains(range, key))
    )
  ]
}

// -----------------------------------------------------------------------------
// leases
// -----------------------------------------------------------------------------

interface LeaseUse {
  readonly attached: Set<string>
  /** The earliest possible end. */
  since: number
  /** The calls that may have revoked it or found it alive. */
  readonly calls: Array<History.Call>
}

/** The leases with keys. */
const leasesOf = (
  calls: ReadonlyArray<History.Call>,
  ops: ReadonlyArray<History.OpCall>,
  initial: ReadonlyArray<History.Row>
): ReadonlyMap<bigint, LeaseUse> => {
  const leases = new Map<bigint, LeaseUse>()
  const attach = (key: string, lease: bigint, since: number): void => {
    if (lease === 0n) return
    const use = leases.get(lease) ?? { attached: new Set(), since, calls: [] }
    leases.set(lease, use)
    use.attached.add(key)
    use.since = Math.min(use.since, since)
  }
  const attachAll = (op: Op.Op, since: number): void => {
    if (op._tag === "Txn") [...op.then, ...op.else].forEach((inner) => attachAll(inner, since))
    if (op._tag === "Put") attach(op.key, op.lease ?? 0n, since)
  }
  for (const row of initial) attach(row.key, row.lease, Number.NEGATIVE_INFINITY)
  for (const call of ops) attachAll(call.request.op, call.invoked.order)
  for (const call of calls) {
    const { request } = call
    if (request._tag === "Execute" || request._tag === "LeaseGrant") continue
    const hasResponse = call.outcome._tag === "Responded"
    if (hasResponse || request._tag === "LeaseRevoke" && History.isUnknown(call)) {
      leases.get(request.id)?.calls.push(call)
    }
  }
  return leases
}

class UnionFind {
  readonly #parents = new Map<string, string>()

  find(name: string): string {
    let root = name
    for (let parent = this.#parents.get(root); parent !== undefined; parent = this.#parents.get(root)) root = parent
    for (let at = name; at !== root;) {
      const next = this.#parents.get(at)!
      this.#parents.set(at, root)
      at = next
    }
    return root
  }

  union(a: string, b: string): void {
    const [x, y] = [this.find(a), this.find(b)]
    if (x !== y) this.#parents.set(x, y)
  }
}
