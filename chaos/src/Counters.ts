/**
 * Counters that locks protect, checked by the store's own history, whatever responses the writers got. A leadership, a
 * read-write lock and the run of a tick protect them like a lock.
 *
 * A writer reads and writes while it holds the lock. So each write adds one, and carries the token of the client that
 * held the lock at its revision. An unfenced write that arrives late breaks the second rule even if no other client
 * wrote before.
 *
 * Holders of permits and readers write a log instead. Each of its writes carries the token of a holder as well, and that
 * of a reader the count that it saw: no writer changed it meanwhile.
 */
import { type History, LockChecker } from "@effect-kv/test-suite/verification"
import type { Change } from "./Store.ts"
import * as elections from "./work/elections.ts"
import * as locks from "./work/locks.ts"
import * as shared from "./work/shared.ts"
import * as singletons from "./work/singletons.ts"
import * as ticks from "./work/ticks.ts"

type Changes = ReadonlyArray<Change>

/** The names of everything that protects a counter. */
export const namesOf = (prefix: string): ReadonlyArray<string> => [
  ...locks.lockNames(prefix),
  elections.electionName(prefix),
  singletons.singletonName(prefix),
  shared.rwLockName(prefix),
  ticks.jobName(prefix)
]

/** How many permits the semaphores of a round have. */
export const permitsOf = (prefix: string): Readonly<Record<string, number>> => ({
  [shared.semaphoreName(prefix)]: shared.permits
})

/** The writes that broke a rule, as messages. */
export const find = (
  changes: Changes,
  prefix: string,
  holdings: ReadonlyArray<History.Holding>
): ReadonlyArray<string> => [
  ...namesOf(prefix).flatMap((lock) => {
    const writes = changes.filter(({ key }) => key === locks.counterOf(lock))
    return [...wrongSteps(writes), ...writesWithoutLock(lock, writes.map(tokenOfCount), changes, holdings)]
  }),
  ...[shared.semaphoreName(prefix), shared.rwLockName(prefix)].flatMap((name) => {
    const writes = changes.filter(({ key }) => key === shared.logOf(name)).map(tokenOfLog)
    return writesWithoutLock(name, writes, changes, holdings, permitsOf(prefix))
  }),
  ...wrongReads(changes, shared.rwLockName(prefix))
]

/** A write and the token in its value. */
interface Write {
  readonly key: string
  readonly revision: bigint
  readonly token: bigint
}

const tokenOfCount = ({ key, modRevision, value }: Change): Write => ({
  key,
  revision: modRevision,
  token: locks.tokenOf(value)
})

const tokenOfLog = ({ key, modRevision, value }: Change): Write => ({
  key,
  revision: modRevision,
  token: shared.tokenOf(value)
})

/** Readers whose count was another one when they wrote it. */
const wrongReads = (changes: Changes, name: string): ReadonlyArray<string> => {
  let count = 0
  return changes.flatMap(({ key, modRevision, type, value }) => {
    if (type === "put" && key === locks.counterOf(name)) count = locks.countOf(value)
    if (type !== "put" || key !== shared.logOf(name) || shared.countOf(value) === count) return []
    return [`a reader of ${name} saw ${JSON.stringify(value)} at revision ${modRevision}, when the count was ${count}`]
  })
}

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
  writes: ReadonlyArray<Write>,
  changes: Changes,
  holdings: ReadonlyArray<History.Holding>,
  permits: Readonly<Record<string, number>> = {}
): ReadonlyArray<string> => {
  const afterAll = { order: Number.MAX_SAFE_INTEGER, nanos: 0n }
  const effects = writes.map(({ key, revision, token }): History.FencedEffect => ({
    _tag: "Effect",
    id: Number(revision),
    client: "",
    resource: key,
    lock,
    token,
    invoked: afterAll,
    completed: afterAll,
    outcome: "Accepted",
    revision
  }))
  return LockChecker.check({ holdings, effects }, { changes, permits })
    .filter(({ kind }) => kind === "EffectWithoutLock")
    .map(({ message }) => `written without the lock: ${message}`)
}
