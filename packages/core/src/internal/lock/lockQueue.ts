/**
 * The queue of a lock's contenders, as keys of the store: the algorithm and key layout of Go's
 * `go.etcd.io/etcd/client/v3/concurrency` `Mutex`, and so of `etcdctl lock`.
 *
 * A contender puts `NAME/<lease id in hex>` with its lease attached. The holder is the one whose key was created first;
 * each waiter waits for the deletion of the key created just before its own. Unlike Go's, a waiter opens its watch first
 * and reads its predecessor again after it is confirmed: such a watch is served at once, where etcd serves one that
 * begins in the past within 100 ms.
 */
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import { execute, type KvBackend } from "../../backend/KvBackend.ts"
import * as Compare from "../../values/Compare.ts"
import type { Entry } from "../../values/Entry.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import type * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import { isPassing, retryInterval } from "../session/awaitDeletion.ts"

/** A contender's place in the queue: its key as it was created at that revision, which is its fencing token. */
export interface Place {
  readonly key: string
  readonly createRevision: bigint
}

/** How a contender stands. `Unclear`: a look must tell. `Gone`: its key is not there any more. */
export type Standing =
  | { readonly _tag: "First" }
  | { readonly _tag: "Behind"; readonly predecessor: string }
  | { readonly _tag: "Unclear" }
  | { readonly _tag: "Gone" }

const first: Standing = { _tag: "First" }
const unclear: Standing = { _tag: "Unclear" }
const gone: Standing = { _tag: "Gone" }

export const prefixOf = (name: string): string => `${name}/`

export const keyOf = (name: string, lease: bigint): string => `${prefixOf(name)}${lease.toString(16)}`

/** Enters the queue at its end, in one transaction, which also tells who is ahead; `undefined` if the key was there. */
export const enter = (
  backend: KvBackend,
  name: string,
  key: string,
  lease: bigint,
  description: string
): Effect.Effect<{ readonly place: Place; readonly standing: Standing } | undefined, KvError.KvError> =>
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
      return { place: { key, createRevision: response.revision }, standing: standingBehind(name, ahead) }
    }
  )

/**
 * Enters the queue only if no contender is in it, in one transaction; `undefined` if one is. An attempt that fails leaves
 * nothing and is in nobody's way.
 *
 * A condition on all keys of a prefix also counts keys further down, which are no contenders. If such a key is in the way,
 * the queue is read once. If it holds no contender, a second transaction enters unless a key was created since.
 */
export const enterIfFree = Effect.fnUntraced(function*(
  backend: KvBackend,
  name: string,
  key: string,
  lease: bigint,
  description: string
): Effect.fn.Return<{ readonly place: Place } | undefined, KvError.KvError> {
  const queue = KeyRange.prefix(prefixOf(name))
  let emptyUpTo = 0n
  while (true) {
    const response = yield* execute(
      backend,
      Op.txn({
        if: [Compare.createdBefore(queue, emptyUpTo + 1n)],
        then: [Op.put(key, description, { lease })],
        else: [youngest(name, undefined, 1)]
      })
    )
    if (response.succeeded) return { place: { key, createRevision: response.revision } }
    if (response.responses[0].entries.some((entry) => isContender(name, entry))) return undefined
    const all = yield* execute(backend, Op.range(queue, { keysOnly: true }))
    if (all.entries.some((entry) => isContender(name, entry))) return undefined
    emptyUpTo = all.revision
  }
})

/** Looks at the queue: one read-only transaction, but for foreign keys in between. */
export const look = Effect.fnUntraced(function*(
  backend: KvBackend,
  name: string,
  place: Place
): Effect.fn.Return<Standing, KvError.KvError> {
  const own = Op.get(place.key, { keysOnly: true })
  const standing = yield* lookAt(backend, name, place, [own, youngest(name, place.createRevision - 1n, 1)])
  return standing._tag === "Unclear"
    ? yield* lookAt(backend, name, place, [own, youngest(name, place.createRevision - 1n, undefined)])
    : standing
})

const lookAt = (
  backend: KvBackend,
  name: string,
  place: Place,
  reads: readonly [own: Op.Range, ahead: Op.Range]
): Effect.Effect<Standing, KvError.KvError> =>
  Effect.map(execute(backend, Op.txn({ then: reads })), (response) => {
    if (!response.succeeded) return gone
    const [own, ahead] = response.responses
    if (own.entries[0]?.createRevision !== place.createRevision) return gone
    const next = ahead.entries.find((entry) => isContender(name, entry))
    return next === undefined && ahead.more ? unclear : standingBehind(name, next)
  })

/** Is told of each step of a wait. */
export interface Observer {
  readonly onStanding: (standing: Standing) => void
  /** The store could not be reached, and is tried again. */
  readonly onFailure: (reason: KvError.Reason) => void
}

/**
 * Waits until no other contender is ahead, through outages: as long as its lease lives, its place does. Fails with
 * `StoreReplaced` if the store was replaced and its place is not in the new one.
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
  observer.onStanding(standing)
  while (standing._tag !== "First" && standing._tag !== "Gone") {
    standing = yield* (standing._tag === "Behind"
      ? awaitPredecessor(backend, name, place, standing.predecessor)
      : look(backend, name, place)).pipe(
        Effect.tap((standing) => Effect.sync(() => observer.onStanding(standing))),
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

/** Waits until something has changed for a waiter, and answers with how it stands then. */
const awaitPredecessor = (backend: KvBackend, name: string, place: Place, predecessor: string) =>
  Effect.scopedWith((scope) =>
    Effect.gen(function*() {
      const watcher = yield* Scope.provide(backend.watch({ range: KeyRange.key(predecessor), only: "Delete" }), scope)
      const standing = yield* look(backend, name, place)
      if (standing._tag !== "Behind" || standing.predecessor !== predecessor) return standing
      yield* watcher.take
      return yield* look(backend, name, place)
    })
  )

/** Everybody in the queue, the holder first. */
export const contenders = Effect.fnUntraced(function*(backend: KvBackend, name: string) {
  const response = yield* execute(
    backend,
    Op.range(KeyRange.prefix(prefixOf(name)), { order: { by: "createRevision" } })
  )
  return response.entries.filter((entry) => isContender(name, entry))
})

/**
 * Keys further down, such as those of a lock `a/b` for the lock `a`, are nobody's in this queue. That they can stand
 * between is rare, so only then is more than one key read.
 */
const isContender = (name: string, entry: Entry): boolean => !entry.key.slice(prefixOf(name).length).includes("/")

const standingBehind = (name: string, ahead: Entry | undefined): Standing => {
  if (ahead === undefined) return first
  return isContender(name, ahead) ? { _tag: "Behind", predecessor: ahead.key } : unclear
}

const youngest = (name: string, maxCreateRevision: bigint | undefined, limit: number | undefined): Op.Range =>
  Op.range(KeyRange.prefix(prefixOf(name)), {
    keysOnly: true,
    order: { by: "createRevision", direction: "descending" },
    maxCreateRevision,
    limit
  })
