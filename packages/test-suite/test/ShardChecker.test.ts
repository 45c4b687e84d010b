/**
 * The checker of shard locks, on histories that are right and on histories that are wrong in one way.
 */
import { type Changes, ShardChecker } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"

const change = (
  fields: Partial<Changes.Change> & Pick<Changes.Change, "key" | "modRevision">
): Changes.Change => ({
  type: "put",
  valueBytes: new Uint8Array(0),
  createRevision: fields.modRevision,
  version: 1n,
  lease: 11n,
  ...fields
})

const deleted = (key: string, modRevision: bigint): Changes.Change =>
  change({ key, modRevision, type: "delete", createRevision: 0n, version: 0n, lease: 0n })

const written = (modRevision: bigint, token: bigint): Changes.Change =>
  change({
    key: "state/a",
    modRevision,
    createRevision: 1n,
    lease: 0n,
    valueBytes: new TextEncoder().encode(`${token}`)
  })

const kinds = (changes: ReadonlyArray<Changes.Change>): ReadonlyArray<string> =>
  ShardChecker.check(changes, {
    shardOf: (key) => key.startsWith("locks/") ? key.slice("locks/".length) : undefined,
    writtenUnder: ({ key, type, valueBytes }) =>
      key.startsWith("state/") && type === "put"
        ? { shard: "1", token: BigInt(new TextDecoder().decode(valueBytes)) }
        : undefined
  }).map(({ kind }) => kind)

describe("ShardChecker", () => {
  it("accepts locks that are acquired after they were released, and writes under them", () => {
    assert.deepStrictEqual(
      kinds([
        change({ key: "locks/1", modRevision: 2n }),
        change({ key: "locks/2", modRevision: 2n }),
        written(3n, 2n),
        deleted("locks/1", 4n),
        change({ key: "other", modRevision: 5n, lease: 0n }),
        change({ key: "locks/1", modRevision: 6n, lease: 12n }),
        written(7n, 6n)
      ]),
      []
    )
  })

  it("accepts a write in the transaction that created its lock", () => {
    assert.deepStrictEqual(kinds([written(2n, 2n), change({ key: "locks/1", modRevision: 2n })]), [])
  })

  it("finds a lock that is written while it is held", () => {
    assert.deepStrictEqual(
      kinds([
        change({ key: "locks/1", modRevision: 2n }),
        change({ key: "locks/1", modRevision: 3n, createRevision: 2n, version: 2n, lease: 12n })
      ]),
      ["LockOverwritten"]
    )
  })

  it("finds a lock without a lease", () => {
    assert.deepStrictEqual(kinds([change({ key: "locks/1", modRevision: 2n, lease: 0n })]), ["LockWithoutLease"])
  })

  it("finds a write after the lock was lost, and one after another runner has acquired it", () => {
    assert.deepStrictEqual(
      kinds([
        change({ key: "locks/1", modRevision: 2n }),
        deleted("locks/1", 3n),
        written(4n, 2n),
        change({ key: "locks/1", modRevision: 5n, lease: 12n }),
        written(6n, 2n)
      ]),
      ["WriteWithoutLock", "WriteWithoutLock"]
    )
  })
})
