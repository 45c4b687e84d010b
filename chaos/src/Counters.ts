/**
 * Counters that locks protect, checked by the store's own history, whatever responses the writers got.
 *
 * A writer reads and writes while it holds the lock. So each write adds one, and carries the token of the client that
 * held the lock at its revision. An unfenced write that arrives late breaks the second rule even if no other client
 * wrote before.
 */
import { type EtcdCluster, type History, LockChecker } from "@effect-kv/test-suite/verification"
import * as locks from "./work/locks.ts"

type Changes = ReadonlyArray<EtcdCluster.HistoryEvent>

/** The writes that broke a rule, as messages. */
export const find = (
  changes: Changes,
  prefix: string,
  holdings: ReadonlyArray<History.Holding>
): ReadonlyArray<string> =>
  locks.lockNames(prefix).flatMap((lock) => {
    const writes = changes.filter(({ key }) => key === locks.counterOf(lock))
    return [...wrongSteps(writes), ...writesWithoutLock(lock, writes, changes, holdings)]
  })

const wrongSteps = (writes: Changes): ReadonlyArray<string> => {
  let count = 0
  return writes.flatMap(({ key, modRevision, value }) => {
    const before = count
    count = locks.countOf(value)
    return count === before + 1
      ? []
      : [`${key} went from ${before} to ${JSON.stringify(value)} at revision ${modRevision}`]
  })
}

const writesWithoutLock = (
  lock: string,
  writes: Changes,
  changes: Changes,
  holdings: ReadonlyArray<History.Holding>
): ReadonlyArray<string> => {
  const afterAll = { order: Number.MAX_SAFE_INTEGER, nanos: 0n }
  const effects = writes.map(({ key, modRevision, value }): History.FencedEffect => ({
    _tag: "Effect",
    id: Number(modRevision),
    client: "",
    resource: key,
    lock,
    token: locks.tokenOf(value),
    invoked: afterAll,
    completed: afterAll,
    outcome: "Accepted",
    revision: modRevision
  }))
  return LockChecker.check({ holdings, effects }, { changes })
    .filter(({ kind }) => kind === "EffectWithoutLock")
    .map(({ message }) => `written without the lock: ${message}`)
}
