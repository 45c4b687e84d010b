/**
 * The store of Effect's persisted queue on a `Kv`: offers, takes and cleanup of all its queues.
 */
import * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { PersistedQueueError, PersistedQueueStore } from "effect/persistence/PersistedQueue"
import * as RcMap from "effect/RcMap"
import type * as Scope from "effect/Scope"
import * as shared from "../shared.ts"
import type { Claimed } from "./claims.ts"
import * as cleanups from "./cleanup.ts"
import * as failures from "./failures.ts"
import * as keysOf from "./keys.ts"
import * as offers from "./offer.ts"
import * as settles from "./settle.ts"
import { Takers } from "./takers.ts"
import * as work from "./work.ts"

export interface Options {
  readonly prefix: string
  readonly ttl: Duration.Input
}

/** How long a process stays registered with a queue after its last take. */
const idleTimeToLive = "30 seconds"

/** How many items with generated ids a process completes until it removes a batch of old ones. */
const trimInterval = 32

export const make = Effect.fnUntraced(function*(
  { prefix, ttl }: Options
): Effect.fn.Return<PersistedQueueStore["Service"], never, Kv.Kv | Scope.Scope> {
  const kv = yield* Kv.Kv
  const scope = yield* Effect.scope
  const run = yield* shared.make
  const now = run(Clock.currentTimeMillis)
  let completed = 0
  /** The keys of the claims that this process has not ended yet, those of its former workers included. */
  const unended = new Set<string>()

  /** Runs in the background until the layer closes. */
  const inBackground = <A, E>(effect: Effect.Effect<A, E>) =>
    Effect.forkIn(run(effect), scope, { startImmediately: true })

  const queues = yield* RcMap.make({
    lookup: Effect.fnUntraced(function*(name: string) {
      const keys = keysOf.make(prefix, name)
      const takers = new Takers()
      const release = (claimed: Claimed) => Effect.asVoid(inBackground(ending(keys, claimed, { _tag: "Released" })))
      yield* Effect.addFinalizer(() => Effect.sync(() => takers.fail(closed(name))))
      yield* Effect.forkScoped(Effect.interruptible(run(work.run({ kv, keys, takers, ttl, release, unended }))))
      return { keys, takers, release }
    }),
    idleTimeToLive
  })
  let isClosed = false
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      isClosed = true
    })
  )

  /** Ends a claim, and keeps the worker registered until that is done. */
  const ending = (keys: keysOf.Keys, claimed: Claimed, end: settles.End): Effect.Effect<void> =>
    Effect.scoped(Effect.gen(function*() {
      unended.add(claimed.key)
      yield* Effect.addFinalizer(() => Effect.sync(() => unended.delete(claimed.key)))
      yield* RcMap.get(queues, keys.name)
      const isSettled = yield* settles.settle(kv, keys, claimed, end, yield* Clock.currentTimeMillis)
      if (!isSettled) yield* logLost(keys, claimed, end)
      if (isSettled && end._tag === "Completed" && !claimed.isCustomId) yield* trim(keys)
    })).pipe(Effect.catch((error: KvError) => logUnrecorded(keys, claimed, end, error.message)))

  /** Removes a batch of old items with generated ids now and then, so that they do not wait for a cleanup. */
  const trim = Effect.fnUntraced(function*(keys: keysOf.Keys) {
    if (++completed % trimInterval !== 0) return
    const until = cleanups.spentUntil(yield* Clock.currentTimeMillis)
    yield* inBackground(Effect.ignore(cleanups.removeBatch(kv, keys, "spent", until)))
  })

  return PersistedQueueStore.of({
    offer: (options) =>
      Effect.flatMap(now, (time) => offers.offer(kv, keysOf.make(prefix, options.name), options, time)).pipe(
        Effect.mapError(failures.failure(`The item was not offered to the queue ${options.name}`)),
        Effect.asVoid
      ),

    take: (options) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.gen(function*() {
          // Otherwise the take would end as if it had been interrupted.
          if (isClosed) return yield* closed(options.name)
          const { keys, release, takers } = yield* RcMap.get(queues, options.name)
          const taker = takers.add(options.maxAttempts)
          const claimed = yield* Effect.onInterrupt(restore(Deferred.await(taker.item)), () =>
            Effect.suspend(() => {
              takers.remove(taker)
              return taker.given === undefined ? Effect.void : release(taker.given)
            }))
          unended.add(claimed.key)
          yield* Effect.addFinalizer((exit) =>
            Effect.gen(function*() {
              const time = yield* now
              const end = yield* Effect.exit(settles.endOf(claimed, exit, options, time))
              const recorded: settles.End = Exit.isSuccess(end) ? end.value : { _tag: "Retried", from: time }
              const fiber = yield* inBackground(ending(keys, claimed, recorded))
              yield* run(Effect.timeoutOption(Fiber.await(fiber), ttl))
              // A retry schedule that throws is the caller's defect, but the claim of a live worker must end.
              yield* end
            })
          )
          return { id: claimed.id, attempts: claimed.attempts, element: claimed.element }
        })
      ),

    cleanup: (options) =>
      run(Effect.flatMap(now, (time) => cleanups.cleanup(kv, prefix, options, time))).pipe(
        Effect.mapError(failures.failure(`The queues under ${prefix} were not cleaned up`))
      )
  })
})

const closed = (name: string): PersistedQueueError =>
  new PersistedQueueError({ message: `The queue ${name} cannot be taken from: its layer was closed` })

const logLost = ({ name }: keysOf.Keys, { attempts, id }: Claimed, end: settles.End): Effect.Effect<void> =>
  Effect.logWarning(
    `effect-kv: the claim of a queue's item was lost before its end was recorded; another worker may process the item`
  ).pipe(Effect.annotateLogs({ queue: name, id, attempts, end: end._tag }))

const logUnrecorded = (
  { name }: keysOf.Keys,
  { attempts, id }: Claimed,
  end: settles.End,
  reason: string
): Effect.Effect<void> =>
  Effect.logWarning(`effect-kv: the end of a queue's item was not recorded, so the item will be delivered again`).pipe(
    Effect.annotateLogs({ queue: name, id, attempts, end: end._tag, reason })
  )
