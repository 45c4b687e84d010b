/**
 * The wait for a predecessor: a rule that admits a contender when no older key of certain kinds is left. This is the
 * algorithm of Go's `go.etcd.io/etcd/client/v3/concurrency`.
 *
 * A waiter waits for the deletion of the youngest key ahead of it, so a release wakes only the waiters behind it. Unlike
 * Go's, a waiter opens its watch first and reads the queue again once the watch is confirmed. etcd serves a watch from
 * now on at once, but catches up watches from a past revision only every 100 ms.
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { execute, type KvBackend } from "../../backend/KvBackend.ts"
import * as Compare from "../../values/Compare.ts"
import type { Entry } from "../../values/Entry.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import type * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import * as internals from "../kv/internals.ts"
import { isPassing, retryInterval } from "../session/awaitDeletion.ts"
import * as contenders from "./contenders.ts"
import * as rule from "./rule.ts"

/** A queue whose rule is to wait for older keys. */
export interface Options {
  readonly name: string
  readonly prefix: string
  /** The value of the contender's key. */
  readonly value: string
  /** The prefixes of the keys that must not be ahead. */
  readonly ahead: NonEmptyReadonlyArray<string>
  readonly isMovable: boolean
  /** See `SelfClaim`. Fibers that hold one of these wait for themselves if they request another of the same `id`. */
  readonly id: string
}

export const queue = ({ ahead, id, isMovable, name, prefix, value }: Options): rule.Queue => ({
  name,
  prefix,
  isMovable,
  watchesOwnKey: false,
  claim: { id, weight: 1, limit: 1 },
  enter: (backend, key, lease) => enter(backend, ahead, key, value, lease),
  onRefused: Effect.void,
  awaitTurn: (kv, place, standing, observer) => awaitTurn(internals.of(kv).unfenced, ahead, place, standing, observer)
})

type Prefixes = NonEmptyReadonlyArray<string>

/** Enters the queue at its end and reads who is ahead, in one transaction. */
const enter = (
  backend: KvBackend,
  prefixes: Prefixes,
  key: string,
  value: string,
  lease: bigint
): Effect.Effect<rule.Entry, KvError.KvError> =>
  Effect.map(
    execute(
      backend,
      Op.txn({
        if: [Compare.missing(key)],
        then: [...prefixes.map((prefix) => contenders.youngest(prefix, undefined, 1)), Op.put(key, value, { lease })]
      })
    ),
    (response): rule.Entry => {
      if (!response.succeeded) return { _tag: "KeyExists" }
      const ranges = response.responses.filter((response) => response._tag === "Range")
      const ahead = prefixes.map((prefix, i) => youngestOf(prefix, ranges[i]!))
      return { _tag: "Entered", createRevision: response.revision, standing: standingBehind(ahead) }
    }
  )

/** The youngest contender of a range; `none` if there is none, `undefined` if the range must be read in full. */
type Youngest = Option.Option<Entry> | undefined

const youngestOf = (prefix: string, { entries, more }: Op.RangeResponse): Youngest => {
  const found = entries.find((entry) => contenders.isContender(prefix, entry))
  return found === undefined && more ? undefined : Option.fromUndefinedOr(found)
}

const standingBehind = (ahead: ReadonlyArray<Youngest>): rule.Standing => {
  let found: Entry | undefined
  for (const youngest of ahead) {
    if (youngest === undefined) return rule.unclear
    if (Option.isSome(youngest) && (found === undefined || contenders.isBefore(found, youngest.value))) {
      found = youngest.value
    }
  }
  return found === undefined ? rule.admitted : { _tag: "Behind", predecessor: found.key, isPermanent: false }
}

/** Reads a contender's standing: one read-only transaction, and a second one if deeper keys are in between. */
const readStanding = Effect.fnUntraced(function*(
  backend: KvBackend,
  prefixes: Prefixes,
  place: rule.Place,
  predecessor?: string
): Effect.fn.Return<rule.Standing, KvError.KvError> {
  const standing = yield* readQueue(backend, prefixes, place, 1, predecessor)
  return standing._tag === "Unclear" ? yield* readQueue(backend, prefixes, place, undefined, predecessor) : standing
})

const readQueue = (
  backend: KvBackend,
  prefixes: Prefixes,
  place: rule.Place,
  limit: number | undefined,
  predecessor: string | undefined
): Effect.Effect<rule.Standing, KvError.KvError> =>
  Effect.map(
    execute(
      backend,
      Op.txn({
        then: [
          Op.get(place.key, { keysOnly: true }),
          ...prefixes.map((prefix) => contenders.youngest(prefix, place.createRevision - 1n, limit)),
          // With its value: `keysOnly` would leave out the lease.
          ...(predecessor === undefined ? [] : [Op.get(predecessor)])
        ]
      })
    ),
    (response): rule.Standing => {
      if (!response.succeeded) return rule.gone
      const [own, ...others] = response.responses
      if (own?.entries[0]?.createRevision !== place.createRevision) return rule.gone
      const standing = standingBehind(prefixes.map((prefix, i) => youngestOf(prefix, others[i]!)))
      const blocker = others[prefixes.length]?.entries[0]
      return standing._tag === "Behind" && blocker?.key === standing.predecessor
        ? { ...standing, isPermanent: Option.isNone(blocker.lease) }
        : standing
    }
  )

const awaitTurn = Effect.fnUntraced(function*(
  backend: KvBackend,
  prefixes: Prefixes,
  place: rule.Place,
  entered: rule.Standing,
  observer: rule.Observer
): Effect.fn.Return<rule.Ended, KvError.KvError> {
  let standing = entered
  let replaced: KvError.KvError | undefined
  yield* observer.onStanding(standing)
  while (!rule.isEnded(standing)) {
    standing = yield* (standing._tag === "Behind"
      ? awaitPredecessor(backend, prefixes, place, standing.predecessor, observer)
      : readStanding(backend, prefixes, place)).pipe(
        Effect.tap(observer.onStanding),
        Effect.catch((error) => {
          if (error.reason._tag === "StoreReplaced") replaced = error
          if (!isPassing(error)) return Effect.fail(error)
          observer.onFailure(error.reason)
          return Effect.delay(Effect.succeed(rule.unclear), retryInterval)
        })
      )
  }
  if (standing._tag === "Gone" && replaced !== undefined) return yield* replaced
  return standing
})

/** Waits until a waiter's standing may have changed, and returns the new standing. */
const awaitPredecessor = (
  backend: KvBackend,
  prefixes: Prefixes,
  place: rule.Place,
  predecessor: string,
  observer: rule.Observer
) =>
  Effect.scopedWith((scope) =>
    Effect.gen(function*() {
      const watcher = yield* Scope.provide(backend.watch({ range: KeyRange.key(predecessor), only: "Delete" }), scope)
      observer.onWatch?.(watcher)
      const standing = yield* readStanding(backend, prefixes, place, predecessor)
      if (standing._tag !== "Behind" || standing.predecessor !== predecessor) return standing
      yield* observer.onStanding(standing)
      yield* watcher.take
      return yield* readStanding(backend, prefixes, place)
    })
  )
