/**
 * The use of queues by a recipe: to acquire what they guard until a scope closes, or while an effect runs.
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
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
  Effect.map(
    run(
      kv,
      queues,
      f,
      options,
      (scope) =>
        Effect.asSome(
          Effect.andThen(
            request.notWaitingForItself(kv, queues),
            acquisition.acquire(kv, queues, options, scope)
          )
        ),
      limit
    ),
    Option.getOrThrow
  )

/** Runs the function under what it acquires if that needs no wait; otherwise returns `none`. */
export const useIfFree = <A, E, R>(
  kv: Kv,
  queues: Queues<unknown>,
  enterIfFree: acquisition.EnterIfFree,
  f: (lock: heldLock.HeldLock) => Effect.Effect<A, E, R>,
  options: Options | undefined
): Effect.Effect<Option.Option<A>, E | LockHoldExceeded | KvError.KvError | LockLost, R> =>
  run(
    kv,
    queues,
    f,
    options,
    (scope) => internals.of(kv).sessions.onClock(acquisition.tryAcquire(kv, queues, enterIfFree, options, scope))
  )

const run = <A, E, R, E2, E3 = never>(
  kv: Kv,
  queues: Queues<unknown>,
  f: (lock: heldLock.HeldLock) => Effect.Effect<A, E, R>,
  options: Options | undefined,
  acquire: (scope: Scope.Scope) => Effect.Effect<Option.Option<heldLock.HeldLock>, E2>,
  otherLimit?: Limit<E3>
): Effect.Effect<Option.Option<A>, E | E2 | E3 | LockHoldExceeded | KvError.KvError | LockLost, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      yield* request.checkDurations(options)
      if (options?.fenced !== false) yield* request.roomForFence(kv, queues.length)
      const scope = yield* Scope.make()
      const acquired = yield* restore(acquire(scope)).pipe(
        Effect.onExit((exit) =>
          Exit.isSuccess(exit) && Option.isSome(exit.value) ? Effect.void : Scope.close(scope, exit)
        )
      )
      if (Option.isNone(acquired)) return Option.none()
      const lock = acquired.value
      const body = Effect.withFiber<A, E, R>((fiber) =>
        // Suspended, so that an `f` that throws is a defect of the body, and the lock is released.
        Effect.updateContext(
          holdSpan.inside(lock.span, Effect.suspend(() => f(lock))),
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
      return Option.some(
        yield* underLock.run(lock, body, { limit, restore, end: (exit) => Scope.close(scope, exit) })
      )
    })
  )
