/**
 * A checker of shard locks: at every revision at most one owner of each shard, and no write of a former owner.
 *
 * It reads nothing but the changes of the store. A lock is one key, so it has two owners only if one of them writes the key
 * while it is the other's. A write that names its shard and the create revision of the lock it was made under was accepted
 * wrongly if another lock, or none, existed at its revision.
 */
import type { Change } from "../history/Changes.ts"
import type * as Violation_ from "./Violation.ts"

/**
 * The kinds of violations.
 *
 * @since 0.1.0
 */
export type Kind =
  /** A lock's key was written although it existed: its holder did not know that it has lost the shard. */
  | "LockOverwritten"
  /** A lock's key was written without a lease: it stays after a crash of its holder. */
  | "LockWithoutLease"
  /** A write of a runner was accepted when it did not hold the lock that the write was made under. */
  | "WriteWithoutLock"

/**
 * A violation.
 *
 * @since 0.1.0
 */
export type Violation = Violation_.Violation<Kind>

/**
 * The lock under which a write was made.
 *
 * @since 0.1.0
 */
export interface WrittenUnder {
  readonly shard: string
  /** The create revision of the lock's key. */
  readonly token: bigint
}

/**
 * What is checked.
 *
 * @since 0.1.0
 */
export interface Options {
  /** The shard whose lock the key is; `undefined` for other keys. */
  readonly shardOf: (key: string) => string | undefined
  /** The lock that a write was made under, as the write itself says; `undefined` for other writes. Default: none says. */
  readonly writtenUnder?: ((change: Change) => WrittenUnder | undefined) | undefined
}

/**
 * Checks the changes of a store from its first revision on.
 *
 * @example
 * ```ts
 * import { type Changes, ShardChecker } from "@effect-kv/test-suite/verification"
 *
 * const put = (modRevision: bigint, version: bigint, lease: bigint): Changes.Change => ({
 *   type: "put",
 *   key: "locks/7",
 *   valueBytes: new Uint8Array(0),
 *   modRevision,
 *   createRevision: 2n,
 *   version,
 *   lease
 * })
 * const shardOf = (key: string) => key.startsWith("locks/") ? key.slice(6) : undefined
 * const fine = ShardChecker.check([put(2n, 1n, 11n)], { shardOf }) // => []
 * const kinds = ShardChecker.check([put(2n, 1n, 11n), put(3n, 2n, 12n)], { shardOf })
 *   .map(({ kind }) => kind) // => ["LockOverwritten"]
 * ```
 *
 * @since 0.1.0
 */
export const check = (changes: ReadonlyArray<Change>, options: Options): ReadonlyArray<Violation> => {
  const locks = new Map<string, bigint>()
  const violations: Array<Violation> = []
  // Locks that a transaction writes count for its other writes, whatever their order within the revision.
  for (const revision of Map.groupBy(changes, ({ modRevision }) => modRevision).values()) {
    for (const change of revision) {
      const shard = options.shardOf(change.key)
      if (shard !== undefined) violations.push(...checkLock(locks, shard, change))
    }
    for (const change of revision) {
      const under = options.writtenUnder?.(change)
      if (under !== undefined) violations.push(...checkWrite(locks, under, change))
    }
  }
  return violations
}

const checkLock = (locks: Map<string, bigint>, shard: string, change: Change): ReadonlyArray<Violation> => {
  if (change.type === "delete") {
    locks.delete(shard)
    return []
  }
  const held = locks.get(shard)
  locks.set(shard, change.createRevision)
  const violations: Array<Violation> = []
  if (held !== undefined || change.version !== 1n) {
    violations.push(violation(
      "LockOverwritten",
      change,
      `the lock of the shard ${shard} was written at revision ${change.modRevision} while it was held with token ` +
        `${held ?? change.createRevision}`
    ))
  }
  if (change.lease === 0n) {
    violations.push(violation(
      "LockWithoutLease",
      change,
      `the lock of the shard ${shard} was written at revision ${change.modRevision} without a lease`
    ))
  }
  return violations
}

const checkWrite = (
  locks: ReadonlyMap<string, bigint>,
  { shard, token }: WrittenUnder,
  change: Change
): ReadonlyArray<Violation> => {
  const held = locks.get(shard)
  return held === token ? [] : [violation(
    "WriteWithoutLock",
    change,
    `${JSON.stringify(change.key)} was written at revision ${change.modRevision} with token ${token} of the shard ` +
      `${shard}, whose lock ${held === undefined ? "was not held" : `was held with token ${held}`}`
  )]
}

const violation = (kind: Kind, { modRevision }: Change, message: string): Violation => ({
  kind,
  message,
  records: [],
  revision: modRevision
})
