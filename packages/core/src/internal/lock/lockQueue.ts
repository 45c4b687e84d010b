/**
 * The queue of a lock's contenders, as keys of the store: the algorithm and key layout of Go's
 * `go.etcd.io/etcd/client/v3/concurrency` `Mutex`, and so of `etcdctl lock`.
 *
 * A contender puts `NAME/<lease id in hex>` with its lease attached. The holder is the one whose key was created first;
 * each waiter waits for the deletion of the key created just before its own. Unlike Go's, a waiter opens its watch
 * first and reads the queue again once the watch is confirmed. etcd serves a watch from now on at once, but catches up
 * watches from a past revision only every 100 ms.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { execute, type KvBackend } from "../../backend/KvBackend.ts"
import * as Compare from "../../values/Compare.ts"
import type { Entry } from "../../values/Entry.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import type * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import { isPassing, retryInterval } from "../session/awaitDeletion.ts"

/** A contender's place in the queue: its key, and its fencing token, which is the key's create revision. */
export interface Place {
  readonly key: string
  readonly createRevision: bigint
}

/**
 * Where a contender stands in the queue. `Unclear`: the queue must be read. `Gone`: its key does not exist any more.
 *
 * `isPermanent`: the key ahead is known to have no lease, so it does not expire.
 */
export type Standing =
  | { readonly _tag: "First" }
  | { readonly _tag: "Behind"; readonly predecessor: string; readonly isPermanent: boolean }
  | { readonly _tag: "Unclear" }
  | { readonly _tag: "Gone" }

const first: Standing = { _tag: "First" }
const unclear: Standing = { _tag: "Unclear" }
const gone: Standing = { _tag: "Gone" }

export const prefixOf = (name: string): string => `${name}/`

export const keyOf = (name: string, lease: bigint): string => `${prefixOf(name)}${lease.toString(16)}`

/** Enters the queue at its end and reads who is ahead, in one transaction; `undefined` if the key existed. */
export const enter = (
  backend: KvBackend,
  name: string,
  key: string,
  lease: bigint,
  description: string
): Effect.Effect<{ readonly createRevision: bigint; readonly standing: Standing } | undefined, KvError.KvError> =>
  Effect.map(
    execute(
      backend,
      Op.txn({
        if: [Compare.missing(key)],
        then: [youngest(name, undefined, 1), Op.put(key, description, { lease })]
      })
    ),
    (response) => {
      if (!response.succeeded) return undefined
      const [ahead] = response.responses[0].entries
      return { createRevision: response.revision, standing: standingBehind(name, ahead) }
    }
  )

/** A lock and the key to contend for it with. */
export interface Candidate {
  readonly name: string
  readonly key: string
}

/**
 * Enters all the queues if none of them holds a contender, in one transaction; `undefined` if one does. A failed
 * attempt leaves nothing and delays no other client.
 *
 * A condition on a prefix also counts deeper keys, which are not contenders. If such a key exists, the queues are read.
 * If they hold no contender, another transaction enters unless a key was created since.
 */
export const enterIfFree = Effect.fnUntraced(function*(
  backend: KvBackend,
  candidates: ReadonlyArray<Candidate>,
  lease: bigint,
  description: string
): Effect.fn.Return<{ readonly createRevision: bigint } | undefined, KvError.KvError> {
  const queues = candidates.map(({ name }) => KeyRange.prefix(prefixOf(name)))
  const isTaken = (responses: ReadonlyArray<Op.RangeResponse>) =>
    responses.some(({ entries }, i) => entries.some((entry) => isContender(candidates[i]!.name, entry)))
  let emptyUpTo = 0n
  while (true) {
    const response = yield* execute(
      backend,
      Op.txn({
        if: queues.map((queue) => Compare.createdBefore(queue, emptyUpTo + 1n)),
        then: candidates.map(({ key }) => Op.put(key, description, { lease })),
        else: candidates.map(({ name }) => youngest(name, undefined, 1))
      })
    )
    if (response.succeeded) return { createRevision: response.revision }
    if (isTaken(response.responses)) return undefined
    const reads = yield* Effect.forEach(
      queues,
      (queue) => execute(backend, Op.range(queue, { keysOnly: true })),
      { concurrency: "unbounded" }
    )
    if (isTaken(reads)) return undefined
    // The reads are at different revisions. The next transaction finds a key created after the oldest of them.
    emptyUpTo = reads.reduce((least, { revision }) => revision < least ? revision : least, reads[0]!.revision)
  }
})

/** Reads a contender's standing: one read-only transaction, and a second one if deeper keys are in between. */
export const readStanding = Effect.fnUntraced(function*(
  backend: KvBackend,
  name: string,
  place: Place,
  predecessor?: string
): Effect.fn.Return<Standing, KvError.KvError> {
  const standing = yield* readQueue(backend, name, place, 1, predecessor)
  return standing._tag === "Unclear" ? yield* readQueue(backend, name, place, undefined, predecessor) : standing
})

const readQueue = (
  backend: KvBackend,
  name: string,
  place: Place,
  limit: number | undefined,
  predecessor: string | undefined
): Effect.Effect<Standing, KvError.KvError> =>
  Effect.map(
    execute(
      backend,
      Op.txn({
        then: [
          Op.get(place.key, { keysOnly: true }),
          youngest(name, place.createRevision - 1n, limit),
          // With its value: `keysOnly` would leave out the lease.
          ...(predecessor === undefined ? [] : [Op.get(predecessor)])
        ]
      })
    ),
    (response) => {
      if (!response.succeeded) return gone
      const [own, ahead, known] = response.responses
      if (own!.entries[0]?.createRevision !== place.createRevision) return gone
      const next = ahead!.entries.find((entry) => isContender(name, entry))
      if (next === undefined && ahead!.more) return unclear
      const standing = standingBehind(name, next)
      const blocker = known?.entries[0]
      return standing._tag === "Behind" && blocker?.key === standing.predecessor
        ? { ...standing, isPermanent: Option.isNone(blocker.lease) }
        : standing
    }
  )

/** Callbacks for each step of a wait. */
export interface Observer {
  readonly onStanding: (standing: Standing) => Effect.Effect<void>
  /** The store could not be reached. The request is repeated. */
  readonly onFailure: (reason: KvError.Reason) => void
}

/**
 * Waits until no other contender is ahead. Continues through outages: the place in the queue lasts as long as its
 * lease. Fails with `StoreReplaced` if the store was replaced and the new one does not have the place.
 */
export const awaitTurn = Effect.fnUntraced(function*(
  backend: KvBackend,
  name: string,
  place: Place,
  entered: Standing,
  observer: Observer
): Effect.fn.Return<"First" | "Gone", KvError.KvError> {
  let standing = entered
  let replaced: KvError.KvError | undefined
  yield* observer.onStanding(standing)
  while (standing._tag !== "First" && standing._tag !== "Gone") {
    standing = yield* (standing._tag === "Behind"
      ? awaitPredecessor(backend, name, place, standing.predecessor, observer)
      : readStanding(backend, name, place)).pipe(
        Effect.tap(observer.onStanding),
        Effect.catch((error) => {
          if (error.reason._tag === "StoreReplaced") replaced = error
          if (!isPassing(error)) return Effect.fail(error)
          observer.onFailure(error.reason)
          return Effect.delay(Effect.succeed(unclear), retryInterval)
        })
      )
  }
  if (standing._tag === "Gone" && replaced !== undefined) return yield* replaced
  return standing._tag
})

/** Waits until a waiter's standing may have changed, and returns the new standing. */
const awaitPredecessor = (
  backend: KvBackend,
  name: string,
  place: Place,
  predecessor: string,
  observer: Observer
) =>
  Effect.scopedWith((scope) =>
    Effect.gen(function*() {
      const watcher = yield* Scope.provide(backend.watch({ range: KeyRange.key(predecessor), only: "Delete" }), scope)
      const standing = yield* readStanding(backend, name, place, predecessor)
      if (standing._tag !== "Behind" || standing.predecessor !== predecessor) return standing
      yield* observer.onStanding(standing)
      yield* watcher.take
      return yield* readStanding(backend, name, place)
    })
  )

/** All contenders of a lock, the holder first. */
export const contenders = Effect.fnUntraced(function*(backend: KvBackend, name: string) {
  const response = yield* execute(
    backend,
    Op.range(KeyRange.prefix(prefixOf(name)), { order: { by: "createRevision" } })
  )
  return response.entries.filter((entry) => isContender(name, entry))
})

/** The contender at the head of the queue: one entry is read, or all if a key further down is older. */
export const head = Effect.fnUntraced(function*(backend: KvBackend, name: string) {
  const order = { by: "createRevision" } as const
  const oldest = yield* execute(backend, Op.range(KeyRange.prefix(prefixOf(name)), { order, limit: 1 }))
  const [entry] = oldest.entries
  if (entry === undefined || isContender(name, entry)) return entry
  return (yield* contenders(backend, name))[0]
})

/**
 * Deeper keys, such as those of a lock `a/b` under the lock `a`, are not contenders in this queue. They are rare, so a
 * read asks for one key first and for all keys only if that one is deeper.
 */
export const isContender = (name: string, entry: Entry): boolean =>
  !entry.key.slice(prefixOf(name).length).includes("/")

const standingBehind = (name: string, ahead: Entry | undefined): Standing => {
  if (ahead === undefined) return first
  return isContender(name, ahead) ? { _tag: "Behind", predecessor: ahead.key, isPermanent: false } : unclear
}

const youngest = (name: string, maxCreateRevision: bigint | undefined, limit: number | undefined): Op.Range =>
  Op.range(KeyRange.prefix(prefixOf(name)), {
    keysOnly: true,
    order: { by: "createRevision", direction: "descending" },
    maxCreateRevision,
    limit
  })
