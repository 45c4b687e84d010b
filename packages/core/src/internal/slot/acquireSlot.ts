/**
 * The acquisition of a slot: reads which are taken, and takes the lowest that is free.
 *
 * If none is free, the client queues for one. Only the first in the queue watches the slots, so a slot that becomes free
 * wakes one waiter, not all.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import { execute } from "../../backend/KvBackend.ts"
import * as LastFailure from "../../backend/LastFailure.ts"
import type { Kv } from "../../service/KvService.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import { inChildScope } from "../childScope.ts"
import * as internals from "../kv/internals.ts"
import { Turns } from "../kv/turns.ts"
import * as lockQueue from "../lock/lockQueue.ts"
import type { LockMetrics } from "../metrics/client.ts"
import { asPlaceForSlot } from "../queue/lockOptions.ts"
import * as lockSpans from "../queue/lockSpans.ts"
import * as queues from "../queue/use.ts"
import * as deletion from "../session/awaitDeletion.ts"
import type { SessionPool } from "../session/sessionPool.ts"
import * as useSession from "../session/useSession.ts"
import { type HeldSlot, take } from "./heldSlot.ts"
import { type Options, SlotsTaken } from "./model.ts"
import * as slotKey from "./slotKey.ts"

/** Acquires a slot. It is released when the scope closes. */
export const acquire = (
  kv: Kv,
  name: string,
  options: Options
): Effect.Effect<HeldSlot, KvError.KvError | SlotsTaken, Scope.Scope> =>
  Effect.flatMap(check(name, options), (coolDown) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.suspend(() => {
        const metrics = internals.of(kv).sessions.metrics.lock("slot")
        return Effect.onError(
          restore(
            lockSpans.around("slot", name, acquireMeasured(kv, name, options, coolDown, metrics), Option.some)
          ),
          () => Effect.sync(() => metrics.ended())
        )
      })
    ))

const acquireMeasured = Effect.fnUntraced(function*(
  kv: Kv,
  name: string,
  options: Options,
  coolDown: number,
  metrics: LockMetrics
): Effect.fn.Return<HeldSlot, KvError.KvError | SlotsTaken, Scope.Scope> {
  const attempt = attemptOf(kv, name, options, coolDown, metrics)
  // A free slot is acquired with any timeout.
  const first = yield* attempt
  if (first._tag === "Acquired") return first.slot
  const taken = new SlotsTaken({ slots: name, size: options.size })
  if (options.acquireTimeout === undefined) return yield* taken

  const calls = new LastFailure.LastFailure()
  return yield* inChildScope(
    (scope) =>
      Effect.timeoutOrElse(LastFailure.recorded(awaitTurn(kv, name, options, attempt, scope), calls), {
        duration: options.acquireTimeout!,
        // A call in flight may have begun just now, so only one that has failed says that the store is unreachable.
        orElse: () =>
          Effect.fail(
            calls.ended === undefined ? taken : new SlotsTaken({
              slots: name,
              size: options.size,
              storeFailure: Option.some(calls.ended)
            })
          )
      }),
    Exit.isSuccess
  )
})

/** Queues, and takes a slot when it is first in the queue and one is free. */
const awaitTurn = Effect.fnUntraced(function*(
  kv: Kv,
  name: string,
  options: Options,
  attempt: Effect.Effect<Attempt, KvError.KvError, Scope.Scope>,
  scope: Scope.Scope
): Effect.fn.Return<HeldSlot, KvError.KvError> {
  const queue = lockQueue.queueOf(slotKey.queueOf(name), options.description)
  const whenFree = Effect.gen(function*() {
    while (true) {
      const next = yield* throughOutage(attempt)
      if (next?._tag === "Acquired") return next.slot
      if (next !== undefined) yield* throughOutage(untilFreed(kv, name, next.revision))
    }
  })
  const inTurn = (slotScope: Scope.Scope) =>
    Effect.acquireUseRelease(
      Scope.fork(scope),
      (place) =>
        Effect.flatMap(
          Scope.provide(queues.acquire(kv, [queue], asPlaceForSlot({ ttl: options.ttl })), place),
          (first) => Effect.raceFirst(Scope.provide(whenFree, slotScope), first.lost)
        ),
      (place, exit) => {
        const leave = Scope.close(place, exit)
        // The slot is not delayed until the store has responded.
        return Exit.isSuccess(exit) ? Effect.forkIn(leave, scope, { startImmediately: true }) : leave
      }
    )
  while (true) {
    const slot = yield* inChildScope(inTurn, Exit.isSuccess).pipe(
      Scope.provide(scope),
      // A place that is lost is taken again, at the end of the queue. Without `acquireTimeout` nothing else fails.
      Effect.catchTags({ LockLost: () => Effect.undefined, LockTimeout: Effect.die }),
      throughOutage
    )
    if (slot !== undefined) return slot
  }
})

type Attempt =
  | { readonly _tag: "Acquired"; readonly slot: HeldSlot }
  | { readonly _tag: "None"; readonly revision: bigint }

/**
 * Takes a slot, or finds at a revision that none is free.
 *
 * If another client takes the slot in between, the next choice is among more of the lowest that are free: of many
 * clients that start together, each would otherwise lose against every other.
 */
const attemptOf = Effect.fnUntraced(function*(
  kv: Kv,
  name: string,
  options: Options,
  coolDown: number,
  metrics: LockMetrics
): Effect.fn.Return<Attempt, KvError.KvError, Scope.Scope> {
  const { origin, sessions, unfenced } = internals.of(kv)
  const pool = { ...sessions, get: (ttl: Duration.Input, scope: Scope.Scope) => sessions.get(ttl, scope, coolDown) }
  const scope = yield* Effect.scope
  const inTime = yield* useSession.fromNow
  const tryOne = Effect.fnUntraced(function*(choices: number): Effect.fn.Return<Attempt | undefined, KvError.KvError> {
    const { entries, revision } = yield* execute(unfenced, Op.range(slotKey.rangeOf(name), { keysOnly: true }))
    const free = freeOf(name, options.size, entries)
    if (free.length === 0) return { _tag: "None", revision }
    const index = free[yield* Random.nextIntBetween(0, Math.min(choices, free.length) - 1)]!
    const request = { kv, name, index, description: options.description ?? "", coolDown, metrics }
    // An attempt that took nothing does not keep the session.
    const slot = yield* inChildScope(
      (scope) =>
        useSession.withLive(pool, options.ttl, scope, (session) => Scope.provide(take(request, session), scope)),
      (exit) => Exit.isSuccess(exit) && exit.value !== undefined
    ).pipe(Scope.provide(scope))
    return slot && { _tag: "Acquired", slot }
  })
  for (let choices = 1;; choices *= 2) {
    // The fibers of a client try one at a time. Together they would only get in each other's way.
    const tried = yield* turnsOf(sessions).run(origin.prefix + name, () => inTime(tryOne(choices)))
    if (tried !== undefined) return tried
  }
})

const turns = new WeakMap<SessionPool, Turns<never>>()

const turnsOf = (sessions: SessionPool): Turns<never> => {
  const known = turns.get(sessions) ?? new Turns<never>()
  turns.set(sessions, known)
  return known
}

const freeOf = (
  name: string,
  size: number,
  entries: ReadonlyArray<{ readonly key: string }>
): ReadonlyArray<number> => {
  const taken = new Set(entries.map(({ key }) => slotKey.indexOf(name, key)))
  return Array.from({ length: size }, (_, index) => index).filter((index) => !taken.has(index))
}

/** Waits until a slot is released or has cooled down. */
const untilFreed = (kv: Kv, name: string, revision: bigint): Effect.Effect<void, KvError.KvError> =>
  Effect.scopedWith((scope) =>
    Effect.flatMap(
      Scope.provide(
        internals.of(kv).unfenced.watch({
          range: slotKey.rangeOf(name),
          only: "Delete",
          startRevision: revision + 1n
        }),
        scope
      ),
      (watcher) => Effect.asVoid(watcher.take)
    )
  )

/** Waits and returns `undefined` if the error may pass. */
const throughOutage = <A, R>(
  effect: Effect.Effect<A, KvError.KvError, R>
): Effect.Effect<A | undefined, KvError.KvError, R> =>
  Effect.catch(effect, (error) =>
    deletion.isPassing(error)
      ? Effect.delay(Effect.succeed(undefined), deletion.retryInterval)
      : Effect.fail(error))

const maxSize = 100_000

/** Checks the request before anything is sent. Returns the cool-down in seconds. */
const check = (
  name: string,
  { acquireTimeout, coolDown, size }: Options
): Effect.Effect<number, KvError.KvError> => {
  const problem = KeyRange.invalidKey(name)
  if (problem !== undefined) return invalid(`the name of slots is a key, and ${problem}`)
  if (!Number.isInteger(size) || size < 1 || size > maxSize) {
    return invalid(`the size of slots must be a whole number from 1 to ${maxSize}, not ${size}`)
  }
  if (Number.isNaN(secondsOf(acquireTimeout))) return invalid("acquireTimeout must be a duration of 0 or more")
  const seconds = Math.ceil(secondsOf(coolDown))
  return Number.isFinite(seconds)
    ? Effect.succeed(seconds)
    : invalid("coolDown must be a finite duration of 0 or more")
}

/** NaN for anything but a duration of 0 or more. `Duration` reads NaN as zero. */
const secondsOf = (input: Duration.Input | undefined): number => {
  const duration = Duration.fromInput(input ?? 0)
  return Number.isNaN(input) || Option.isNone(duration) || Duration.isNegative(duration.value)
    ? Number.NaN
    : Duration.toSeconds(duration.value)
}

const invalid = (message: string): Effect.Effect<never, KvError.KvError> =>
  KvError.fail(new KvError.InvalidRequest({ message }))
