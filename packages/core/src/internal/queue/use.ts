/**
 * The use of queues by a recipe: to acquire what they guard until a scope closes, or while an effect runs.
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Fence from "../../service/Fence.ts"
import type { Kv } from "../../service/KvService.ts"
import type * as KvError from "../../values/KvError.ts"
import type { LockHoldExceeded, LockLost, LockTimeout } from "../../values/LockError.ts"
import { inChildScope } from "../childScope.ts"
import * as internals from "../kv/internals.ts"
import * as acquisition from "./acquisition.ts"
import type * as heldLock from "./heldLock.ts"
import * as holdings from "./holdings.ts"
import * as holdSpan from "./holdSpan.ts"
import * as lockFence from "./lockFence.ts"
import type { AcquireOptions } from "./model.ts"
import * as request from "./request.ts"
import type { Queue } from "./rule.ts"
import * as underLock from "./underLock.ts"

/** What a recipe enters: checked queues in the order in which every client enters them. */
export type Queues<E> = NonEmptyReadonlyArray<Queue<E>>

export type EnterIfFree = acquisition.EnterIfFree

/** Options of running an effect under what the queues guard. */
export interface Options extends AcquireOptions {
  readonly maxHold?: Duration.Input | undefined
  readonly fenced?: boolean | undefined
}

type Failure<E> = E | KvError.KvError | LockTimeout | LockLost

/** Acquires after waiting; until the scope closes. */
export const acquire = <E>(
  kv: Kv,
  queues: Queues<E>,
  options: AcquireOptions | undefined,
  onEntered?: acquisition.OnEntered
): Effect.Effect<heldLock.HeldLock, Failure<E>, Scope.Scope> =>
  request.checkDurations(options).pipe(
    Effect.andThen(request.notWaitingForItself(kv, queues)),
    Effect.andThen(inChildScope((scope) => acquisition.acquire(kv, queues, options, scope, onEntered), Exit.isSuccess))
  )

/** Acquires if that needs no wait; until the scope closes. A failed attempt leaves nothing. */
export const tryAcquire = (
  kv: Kv,
  queues: Queues<unknown>,
  enterIfFree: acquisition.EnterIfFree,
  options: AcquireOptions | undefined
): Effect.Effect<Option.Option<heldLock.HeldLock>, KvError.KvError | LockLost, Scope.Scope> =>
  Effect.andThen(
    request.checkDurations(options),
    inChildScope(
      (scope) => internals.of(kv).sessions.onClock(acquisition.tryAcquire(kv, queues, enterIfFree, options, scope)),
      (exit) => Exit.isSuccess(exit) && Option.isSome(exit.value)
    )
  )

/** Ends the function by failing, beside `maxHold`. What was acquired stays held until its finalizers have run. */
export type Limit<E> = (lock: heldLock.HeldLock) => Effect.Effect<never, E>

/** Runs the function under what it acquires, after waiting. */
export const use = <A, E, R, E2, E3 = never>(
  kv: Kv,
  queues: Queues<E2>,
  f: (lock: heldLock.HeldLock) => Effect.Effect<A, E, R>,
  options: Options | undefined,
  limit?: Limit<E3>
): Effect.Effect<A, E | E3 | LockHoldExceeded | Failure<E2>, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.withFiber((fiber) => {
      const problem = problemWith(fiber, kv, queues, options) ?? request.waitForItself(fiber, kv, queues)
      if (problem !== undefined) return request.invalid(problem)
      const scope = Scope.makeUnsafe()
      return Effect.flatMap(
        closedUnless(Exit.isSuccess, scope, restore(acquisition.acquire(kv, queues, options, scope))),
        (lock) => run({ kv, queues, lock, f, options, limit, scope, restore })
      )
    })
  )

/** Runs the function under what it acquires if that needs no wait; otherwise returns `none`. */
export const useIfFree = <A, E, R>(
  kv: Kv,
  queues: Queues<unknown>,
  enterIfFree: acquisition.EnterIfFree,
  f: (lock: heldLock.HeldLock) => Effect.Effect<A, E, R>,
  options: Options | undefined
): Effect.Effect<Option.Option<A>, E | LockHoldExceeded | KvError.KvError | LockLost, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.withFiber((fiber) => {
      const problem = problemWith(fiber, kv, queues, options)
      if (problem !== undefined) return request.invalid(problem)
      const scope = Scope.makeUnsafe()
      const { onClock } = internals.of(kv).sessions
      const acquired = restore(onClock(acquisition.tryAcquire(kv, queues, enterIfFree, options, scope)))
      return Effect.flatMap(
        closedUnless((exit) => Exit.isSuccess(exit) && Option.isSome(exit.value), scope, acquired),
        (lock): Effect.Effect<Option.Option<A>, E | LockHoldExceeded | KvError.KvError | LockLost, R> =>
          Option.isSome(lock)
            ? Effect.asSome(run({ kv, queues, lock: lock.value, f, options, limit: undefined, scope, restore }))
            : Effect.succeedNone
      )
    })
  )

/** Why the fiber cannot run anything under so many locks with such options. */
const problemWith = (
  fiber: Fiber.Fiber<unknown, unknown>,
  kv: Kv,
  queues: Queues<unknown>,
  options: Options | undefined
): string | undefined =>
  request.invalidDuration(options) ??
    (options?.fenced === false ? undefined : request.tooManyLocks(fiber, kv, queues.length))

/** Closes the scope at once unless the exit says to keep it. */
const closedUnless = <A, E, R>(
  keep: (exit: Exit.Exit<A, E>) => boolean,
  scope: Scope.Closeable,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.onExitPrimitive(effect, (exit) => keep(exit) ? undefined : Scope.closeUnsafe(scope, exit))

/** A function to run under a lock, which is held until the scope closes. */
interface Run<A, E, R, E3> {
  readonly kv: Kv
  readonly queues: Queues<unknown>
  readonly lock: heldLock.HeldLock
  readonly f: (lock: heldLock.HeldLock) => Effect.Effect<A, E, R>
  readonly options: Options | undefined
  readonly limit: Limit<E3> | undefined
  readonly scope: Scope.Closeable
  readonly restore: underLock.Options<unknown>["restore"]
}

const run = <A, E, R, E3>({ f, kv, limit: otherLimit, lock, options, queues, restore, scope }: Run<A, E, R, E3>) => {
  const body = Effect.withFiber<A, E, R>((fiber) =>
    Effect.updateContext(
      // Called here, so that an `f` that throws is a defect of the body, and the lock is released.
      holdSpan.inside(lock.span, f(lock)),
      (context: Context.Context<R>) =>
        Context.add(
          options?.fenced === false ? context : Context.add(context, Fence.Current, [
            ...Context.get(context, Fence.Current),
            lockFence.inKv(kv, lock)
          ]),
          holdings.Holdings,
          [...Context.get(context, holdings.Holdings), holdings.make(kv, queues, fiber.id)]
        )
    )
  )
  const { onClock } = internals.of(kv).sessions
  const maxHold = options?.maxHold === undefined
    ? Effect.never
    : onClock(underLock.holdExceeded(lock, options.maxHold))
  const limit: Effect.Effect<never, E3 | LockHoldExceeded> = otherLimit === undefined
    ? maxHold
    : Effect.raceFirst(maxHold, onClock(otherLimit(lock)))
  return underLock.run(lock, body, { limit, restore, end: (exit) => Scope.closeUnsafe(scope, exit) ?? Effect.void })
}
