/**
 * The queues of a store, recognized by the layout of their keys.
 *
 *     NAME/<lease in hex>              a contender for a lock or an election
 *     NAME/read/..., NAME/write/...    a reader or writer, with the same ending
 *     NAME/permits/...                 a contender for a semaphore; NAME/permits/limit is its number of permits
 *
 * A key whose last part is its own lease makes its folder a queue. Then every key directly in that folder is a
 * contender, even one without a lease: so do the locks see it. Go's `recipe.RWMutex` ends its keys with nanoseconds.
 */
import * as Option from "effect/Option"
import { Entry } from "../../values/Entry.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import * as contenders from "../queue/contenders.ts"
import * as permitKeys from "../semaphore/permitKeys.ts"
import { type Contender, type Queue, type Snapshot, SnapshotOf } from "./model.ts"

/** Keeps the values that are shown: those of keys with a lease, and numbers of permits. Others may be large. */
export const thin = (entry: Entry): Entry =>
  Option.isSome(entry.lease) || entry.key.endsWith(limitSuffix) ? entry : new Entry({
    key: entry.key,
    value: "",
    createRevision: entry.createRevision,
    modRevision: entry.modRevision,
    version: entry.version,
    lease: entry.lease
  })

const permitsSuffix = "/permits"
const limitSuffix = `${permitsSuffix}/limit`
const readSuffix = "/read"
const writeSuffix = "/write"

/** The inventory of these entries, which are those of a range at one revision. */
export const snapshotOf = (
  { entries, revision }: { readonly entries: ReadonlyMap<string, Entry>; readonly revision: bigint },
  staleSince: Snapshot["staleSince"]
): Snapshot => {
  const folders = new Set<string>()
  for (const entry of entries.values()) {
    const folder = folderOf(entry.key)
    if (folder !== "" && isQueueKey(folder, entry)) folders.add(folder)
  }
  const found = new Map<string, Found>()
  const leasedKeys: Array<Entry> = []
  for (const entry of entries.values()) {
    const folder = folderOf(entry.key)
    if (!folders.has(folder)) {
      if (Option.isSome(entry.lease)) leasedKeys.push(entry)
      continue
    }
    const { kind, name } = queueOf(folder)
    if (kind === "Semaphore" && !permitKeys.isContender(name, entry)) continue
    const id = `${kind} ${name}`
    const queue = found.get(id) ?? { kind, name, entries: [] }
    found.set(id, queue)
    queue.entries.push(entry)
  }
  return new SnapshotOf({
    revision,
    queues: [...found.values()]
      .sort((a, b) => KeyRange.compareKeys(a.name, b.name) || (a.kind < b.kind ? -1 : 1))
      .map((queue) => describe(queue, entries)),
    leasedKeys: leasedKeys.sort((a, b) => KeyRange.compareKeys(a.key, b.key)),
    staleSince
  })
}

interface Found {
  readonly kind: Queue["kind"]
  readonly name: string
  readonly entries: Array<Entry>
}

/** What precedes the last slash of a key; `""` if there is none. */
const folderOf = (key: string): string => key.slice(0, Math.max(0, key.lastIndexOf("/")))

const isQueueKey = (folder: string, { key, lease }: Entry): boolean => {
  if (Option.isNone(lease)) return false
  const last = key.slice(folder.length + 1)
  return last === lease.value.toString(16) || queueOf(folder).kind === "RwLock" && /^\d{19}$/.test(last)
}

const queueOf = (folder: string): Omit<Found, "entries"> => {
  for (const suffix of [readSuffix, writeSuffix]) {
    if (hasSuffix(folder, suffix)) return { kind: "RwLock", name: folder.slice(0, -suffix.length) }
  }
  return hasSuffix(folder, permitsSuffix)
    ? { kind: "Semaphore", name: folder.slice(0, -permitsSuffix.length) }
    : { kind: "Lock", name: folder }
}

/** The name before the suffix must not be empty, because a name is a key. */
const hasSuffix = (folder: string, suffix: string): boolean => folder.length > suffix.length && folder.endsWith(suffix)

const describe = ({ entries: unordered, kind, name }: Found, all: ReadonlyMap<string, Entry>): Queue => {
  const entries = unordered.sort((a, b) => contenders.isBefore(a, b) ? -1 : 1)
  switch (kind) {
    case "Lock":
      return { kind, name, permits: Option.none(), contenders: entries.map((entry, i) => contender(entry, i === 0)) }
    case "RwLock": {
      const modes = entries.map(({ key }) => folderOf(key).endsWith(readSuffix) ? "Read" : "Write")
      const firstWriter = modes.indexOf("Write")
      return {
        kind,
        name,
        permits: Option.none(),
        contenders: entries.map((entry, i) => ({
          ...contender(entry, i === 0 || firstWriter < 0 || i < firstWriter),
          mode: modes[i]!
        }))
      }
    }
    case "Semaphore": {
      const limit = all.get(permitKeys.limitOf(name))
      const permits = limit === undefined ? undefined : permitKeys.countOf(limit)
      let ahead = 0
      return {
        kind,
        name,
        permits: Option.fromUndefinedOr(permits),
        contenders: entries.map((entry) => {
          const { description, weight } = permitKeys.permitsOf(entry)
          ahead += weight
          return { ...contender(entry, permits !== undefined && ahead <= permits), description, permits: weight }
        })
      }
    }
  }
}

const contender = (entry: Entry, isHolder: boolean): Contender => ({
  key: entry.key,
  token: entry.createRevision,
  lease: entry.lease,
  description: entry.lossyText,
  isHolder,
  mode: "Write",
  permits: 1,
  revision: entry.modRevision
})
