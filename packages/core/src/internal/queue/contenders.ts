/**
 * The contenders of a queue, read from the store: the keys directly under a prefix, in order of creation.
 */
import * as Effect from "effect/Effect"
import { execute, type KvBackend } from "../../backend/KvBackend.ts"
import type { Entry } from "../../values/Entry.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import * as Op from "../../values/Op.ts"

export const keyOf = (prefix: string, lease: bigint): string => `${prefix}${lease.toString(16)}`

/**
 * Whether the key is a contender's. Deeper keys, such as those of a lock `a/b` under the lock `a`, are not. They are
 * rare, so a read requests one key first, and all keys only if that one is deeper.
 */
export const isContender = (prefix: string, { key }: Pick<Entry, "key">): boolean => !key.includes("/", prefix.length)

/** All contenders, the oldest first. */
export const all = Effect.fnUntraced(function*(backend: KvBackend, prefix: string) {
  const response = yield* execute(backend, Op.range(KeyRange.prefix(prefix), { order: { by: "createRevision" } }))
  return response.entries.filter((entry) => isContender(prefix, entry))
})

/** The oldest contender: one entry is read, or all if a key further down is older. */
export const oldest = Effect.fnUntraced(function*(backend: KvBackend, prefix: string) {
  const order = { by: "createRevision" } as const
  const response = yield* execute(backend, Op.range(KeyRange.prefix(prefix), { order, limit: 1 }))
  const [entry] = response.entries
  if (entry === undefined || isContender(prefix, entry)) return entry
  return (yield* all(backend, prefix))[0]
})

/** The youngest key under the prefix that was created up to that revision, without its value. */
export const youngest = (
  prefix: string,
  maxCreateRevision: bigint | undefined,
  limit: number | undefined
): Op.Range =>
  Op.range(KeyRange.prefix(prefix), {
    keysOnly: true,
    order: { by: "createRevision", direction: "descending" },
    maxCreateRevision,
    limit
  })

/** In the order of the queue: by create revision, and by key if one transaction created both. */
export const isBefore = (a: Entry, b: Entry): boolean =>
  a.createRevision === b.createRevision ? KeyRange.compareKeys(a.key, b.key) < 0 : a.createRevision < b.createRevision
