/**
 * Helpers for cases about locks: to hold a lock, to queue for it, and to wait for a condition.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import type { LockLost, LockTimeout } from "@effect-kv/core/LockError"
import { assert } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { promptly, waitUntil } from "./Case.ts"

/** Runs an effect with this client as its `Kv`. */
export const on = (kv: Kv.Kv) => Effect.provideService(Kv.Kv, kv)

/** Holds a lock until it is released or the case ends. */
export interface Held<Lock extends DistLock.MultiLock = DistLock.Lock> {
  readonly lock: Lock
  readonly release: Effect.Effect<void>
}

export const hold = Effect.fnUntraced(function*<const Names extends DistLock.LockNames>(
  kv: Kv.Kv,
  names: Names,
  options?: DistLock.AcquireOptions
): Effect.fn.Return<Held<DistLock.LockOf<Names>>, KvError | LockLost | LockTimeout, Scope.Scope> {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const lock = yield* promptly(
    `the lock ${JSON.stringify(names)}`,
    DistLock.acquire(names, options).pipe(on(kv), Scope.provide(scope))
  )
  return { lock, release: Scope.close(scope, Exit.void) }
})

const realClock = Clock.Clock.defaultValue()

/** The pause between two polls, by the real clock. Without it, polling could starve the store. */
export const pauseBetweenPolls: Effect.Effect<void> = Effect.provideService(Effect.sleep(20), Clock.Clock, realClock)

/** Waits for a condition that comes true without time passing in the store. */
export const soon = <E, R>(what: string, condition: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  promptly(
    what,
    Effect.gen(function*() {
      while (!(yield* condition)) yield* Effect.provideService(Effect.sleep(5), Clock.Clock, realClock)
    })
  )

/** The number of contenders for the lock: its holder and waiters. */
export const contenders = (kv: Kv.Kv, name: string): Effect.Effect<number, KvError> =>
  on(kv)(Effect.map(
    Effect.all([DistLock.holder(name), DistLock.waiters(name)]),
    ([holder, waiters]) => (Option.isSome(holder) ? 1 : 0) + waiters.length
  ))

/** Waits until the lock has this many contenders. */
export const untilContenders = (kv: Kv.Kv, name: string, count: number): Effect.Effect<void, KvError> =>
  soon(`${count} contenders for ${name}`, Effect.map(contenders(kv, name), (found) => found === count))

/** A body that signals that it has started. A contender's key is visible before the contender knows that it holds. */
export const signalling = <A, E, R>(body: Effect.Effect<A, E, R>) => {
  let hasStarted = false
  return {
    body: Effect.suspend(() => {
      hasStarted = true
      return body
    }),
    started: soon("the body has started", Effect.sync(() => hasStarted))
  }
}

/** Starts a contender in the background, and returns once it waits in the queue or, if it is the first, holds. */
export const contend = Effect.fnUntraced(function*<A, E>(
  kv: Kv.Kv,
  name: string,
  options: DistLock.Options | undefined,
  use: (lock: DistLock.Lock) => Effect.Effect<A, E, Kv.Kv>
): Effect.fn.Return<Fiber.Fiber<A, E | DistLock.LockFailure>, KvError, Scope.Scope> {
  const before = yield* contenders(kv, name)
  let hasStarted = false
  const fiber = yield* Effect.forkScoped(
    on(kv)(DistLock.use(
      name,
      (lock) => {
        hasStarted = true
        return use(lock)
      },
      options
    ))
  )
  if (before > 0) yield* untilContenders(kv, name, before + 1)
  else yield* soon("it holds", Effect.sync(() => hasStarted || fiber.pollUnsafe() !== undefined))
  return fiber
})

/** Starts a contender that returns the token of the lock and releases it. */
export const queue = (kv: Kv.Kv, name: string, options?: DistLock.Options) =>
  contend(kv, name, options, (lock) => Effect.succeed(lock.token))

/** Asserts that the lock is free: no holder, no waiter, and no keys left behind. */
export const isFree = Effect.fnUntraced(function*(kv: Kv.Kv, name: string) {
  assert.strictEqual(yield* contenders(kv, name), 0, `${name} is free`)
  const lock = yield* Effect.scoped(on(kv)(DistLock.tryAcquire(name)))
  assert.isTrue(Option.isSome(lock), `${name} can be had`)
  assert.strictEqual(yield* kv.count(KeyRange.prefix(`${name}/`)), 0)
})

/** Lets time pass until the fiber has ended, for at most `atMost` steps of `waitUntil`, and returns its exit. */
export const exitOf = Effect.fnUntraced(function*<A, E>(what: string, fiber: Fiber.Fiber<A, E>, atMost?: number) {
  yield* waitUntil(what, Effect.sync(() => fiber.pollUnsafe() !== undefined), atMost)
  return fiber.pollUnsafe()!
})

/** The error of a failed exit. */
export const errorOf = <A, E>(exit: Exit.Exit<A, E>): E | undefined => {
  if (Exit.isSuccess(exit)) return undefined
  const reason = exit.cause.reasons.find((reason) => reason._tag === "Fail")
  return reason?._tag === "Fail" ? reason.error : undefined
}

/** Asserts that the exit failed with this error, and returns it. */
export const failedWith = <E extends { readonly _tag: string }, Tag extends E["_tag"]>(
  exit: Exit.Exit<unknown, E>,
  tag: Tag
): Extract<E, { readonly _tag: Tag }> => {
  const error = errorOf(exit)
  assert.strictEqual(error?._tag, tag, String(exit))
  return error as Extract<E, { readonly _tag: Tag }>
}
