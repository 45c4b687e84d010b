/**
 * The work of a process on one queue: it claims items in batches while takers wait, and nothing otherwise.
 *
 * A watch keeps the head of the queue current, and a view the workers, so an idle process makes no request. A change wakes
 * one fiber in each process that has takers. It claims as many items as there are takers.
 */
import * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import { watcherOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import * as RangeView from "@effect-kv/core/RangeView"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as claims from "./claims.ts"
import * as failures from "./failures.ts"
import * as heads from "./head.ts"
import * as keysOf from "./keys.ts"
import type { Takers } from "./takers.ts"
import * as workers from "./worker.ts"

export interface Place {
  readonly kv: Kv.Kv
  readonly keys: keysOf.Keys
  readonly takers: Takers
  readonly ttl: Duration.Input
  /**
   * The keys of claims that this process has not ended yet. If they are those of a former worker, whose session was lost,
   * their handlers still run here: other processes may take them over, this one does not run them twice at a time.
   */
  readonly unended: ReadonlySet<string>
  /** Gives an item back for which no taker is left, in the background. */
  readonly release: (claimed: claims.Claimed) => Effect.Effect<void>
}

/** Works until it is interrupted. An error that cannot pass fails the takers that wait; the next taker tries again. */
export const run = (place: Place): Effect.Effect<never> =>
  Effect.forever(
    Effect.andThen(
      place.takers.arrived.await,
      Effect.catch(Effect.scoped(asWorker(place)), (error) =>
        failures.isPassing(error)
          ? Effect.sleep("200 millis")
          : Effect.sync(() =>
            place.takers.fail(failures.failure(`The queue ${place.keys.name} cannot be taken from`)(error))
          ))
    )
  )

/** A worker, with the batch that it is claiming. */
interface Working extends workers.Worker {
  /**
   * A batch whose outcome is not known yet. It survives the watches: the store may have executed it, and an item that is
   * claimed by a live worker must reach a taker.
   */
  unresolved: claims.Batch | undefined
}

/** Works as one worker, until its session is lost. */
const asWorker = Effect.fnUntraced(function*(place: Place): Effect.fn.Return<void, KvError, Scope.Scope> {
  const worker: Working = { ...(yield* workers.register(place.kv, place.keys, place.ttl)), unresolved: undefined }
  // A watch that has ended is opened again by the same worker, because its items are being processed.
  const working: Effect.Effect<void, KvError> = Effect.catchIf(
    Effect.scoped(claimWhatComes(place, worker)),
    failures.isPassing,
    () => Effect.delay(working, "200 millis")
  )
  yield* Effect.raceFirst(worker.lost, working)
})

/** Ends when the store says that the worker is not alive. */
const claimWhatComes = Effect.fnUntraced(function*(
  { keys, kv, release, takers, unended }: Place,
  worker: Working
): Effect.fn.Return<void, KvError, Scope.Scope> {
  const head = new heads.Head(keys)
  const changed = Latch.makeUnsafe(false)
  const watcher = watcherOf(yield* kv.subscribe(keysOf.headOf(keys)))
  const view = yield* Effect.provideService(RangeView.make(keysOf.workersOf(keys)), Kv.Kv, kv)
  let gone = workers.gone(keys, yield* view.snapshot)
  /** Where in the head to claim: at the front, or anywhere after other processes have claimed the same items. */
  let where = 0

  const followHead: Effect.Effect<never, KvError> = Effect.forever(Effect.map(watcher.take, (revisions) => {
    head.apply(revisions)
    changed.openUnsafe()
  }))

  const followWorkers = Stream.runForEach(view.changes, (snapshot) =>
    Effect.sync(() => {
      gone = workers.gone(keys, snapshot)
      if (gone.size > 0) changed.openUnsafe()
    }))

  const load = Effect.gen(function*() {
    const limits = head.startLoading()
    const response = yield* kv.txn({
      then: [
        Op.range(keysOf.dueOf(keys), { limit: limits.due }),
        Op.range(keysOf.readyOf(keys), { limit: limits.ready, order: { by: "createRevision" } })
      ]
    })
    if (response.succeeded) head.load(response.revision, ...response.responses)
  })

  /** Claims that workers have left behind, the oldest first. */
  const orphans = Effect.fnUntraced(function*(count: number): Effect.fn.Return<Array<heads.Candidate>, KvError> {
    const found: Array<heads.Candidate> = []
    for (const id of gone) {
      // Those that are left out must not hide the others.
      for (let limit = claims.maxBatch + unended.size;; limit *= 2) {
        const { entries, more } = yield* kv.range(keysOf.claimsOf(keys, id), { limit, order: { by: "createRevision" } })
        if (entries.length === 0) {
          yield* workers.forget(kv, keys, id)
          gone = new Set([...gone].filter((other) => other !== id))
        }
        const left = entries.filter(({ key }) => !unended.has(key))
          .flatMap((entry) => Option.toArray(heads.candidateOf(entry, id)))
        found.push(...left)
        if (left.length > 0 || !more) break
      }
      if (found.length >= count) break
    }
    return found.toSorted((a, b) => a.place < b.place ? -1 : 1).slice(0, count)
  })

  /** Not longer than a minute: a wall clock may be set while a timer runs. */
  const untilSomethingChanges = Effect.gen(function*() {
    const now = yield* Clock.currentTimeMillis
    yield* Option.match(head.nextDue, {
      onNone: () => changed.await,
      onSome: (time) => Effect.raceFirst(changed.await, Effect.sleep(Math.min(60_000, Math.max(1, time - now))))
    })
  })

  /** False if the worker is not alive. */
  const resolve = Effect.fnUntraced(function*(batch: claims.Batch): Effect.fn.Return<boolean, KvError> {
    worker.unresolved = batch
    const claimed = yield* failures.persistently(claims.claim(kv, keys, worker, batch))
    const isFruitless = claimed?.length === 0
    where = isFruitless ? yield* Random.next : 0
    return yield* Effect.suspend(() => {
      worker.unresolved = undefined
      if (claimed === undefined) return Effect.succeed(false)
      const left = claimed.filter((one) => !takers.give(one))
      return Effect.as(Effect.forEach(left, release, { discard: true }), true)
    })
  })

  const claimLoop = Effect.gen(function*() {
    if (worker.unresolved !== undefined && !(yield* resolve(worker.unresolved))) return
    while (true) {
      yield* takers.arrived.await
      // Takers that start together are served together.
      yield* Effect.yieldNow
      if (takers.count === 0) continue
      changed.closeUnsafe()
      if (head.mustLoad) yield* load
      const now = yield* Clock.currentTimeMillis
      const wanted = Math.min(takers.count, claims.maxBatch)
      const left = gone.size === 0 ? [] : yield* orphans(wanted)
      const candidates = [...left, ...head.pick(wanted - left.length, now, where)]
      if (candidates.length > 0) {
        for (const part of claims.partsOf(candidates)) {
          if (!(yield* resolve({ candidates: part, maxAttempts: takers.maxAttempts, now }))) return
        }
      } else if (!head.mustLoad) {
        yield* untilSomethingChanges
      }
    }
  })

  yield* Effect.raceAllFirst([followHead, followWorkers, claimLoop])
})
