/**
 * Shards of an Effect Cluster, checked by the store's own history: at every revision one owner, and no write of another.
 */
import { type Changes, ShardChecker } from "@effect-kv/test-suite/verification"
import * as shards from "./work/shards.ts"

/** What runners broke, as messages. */
export const find = (changes: ReadonlyArray<Changes.Change>, prefix: string): ReadonlyArray<string> => {
  const locks = `${shards.clusterOf(prefix)}/locks/`
  const used = shards.usedBy(prefix)
  return ShardChecker.check(changes, {
    shardOf: (key) => key.startsWith(locks) ? key.slice(locks.length) : undefined,
    writtenUnder: ({ key, type, valueBytes }) =>
      type === "put" && key.startsWith(used)
        ? { shard: key.slice(used.length), token: shards.tokenOf(new TextDecoder().decode(valueBytes)) }
        : undefined
  }).map(({ kind, message }) => `${kind}: ${message}`)
}
