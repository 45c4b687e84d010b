/**
 * Words for cases about locks: to hold one until told, to wait in line, and to wait for what happens without time passing.
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

/** Runs with this client as its `Kv`. */
export const on = (kv: Kv.Kv) => Effect.provideService(Kv.Kv, kv)

/** A lock that is held until it is released, or the case ends. */
export interface Held {
  readonly lock: DistLock.Lock
  readonly release: Effect.Effect<void>
}

export const hold = Effect.fnUntraced(function*(
  kv: Kv.Kv,
  names: DistLock.Names,
  options?: DistLock.AcquireOptions
): Effect.fn.Return<Held, KvError | LockLost | LockTimeout, Scope.Scope> {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const lock = yield* promptly(
    `the lock ${JSON.stringify(names)}`,
    DistLock.acquire(names, options).pipe(on(kv), Scope.provide(scope))
  )
  return { lock, release: Scope.close(scope, Exit.void) }
})

const realClock = Clock.Clock.defaultValue()

/** The pause between two looks at the store, by the real clock: without one, those who look keep it from doing anything else. */
export const pauseBetweenPolls: Effect.Effect<void> = Effect.provideService(Effect.sleep(20), Clock.Clock, realClock)

/** Waits for something that needs no time of the store's to pass. */
export const soon = <E, R>(what: string, condition: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  promptly(
    what,
    Effect.gen(function*() {
      while (!(yield* condition)) yield* Effect.provideService(Effect.sleep(5), Clock.Clock, realClock)
    })
  )

/** How many contend for the lock. */
export const contenders = (kv: Kv.Kv, name: string): Effect.Effect<number, KvError> =>
  on(kv)(Effect.map(
    Effect.all([DistLock.holder(name), DistLock.waiters(name)]),
    ([holder, waiters]) => (Option.isSome(holder) ? 1 : 0) + waiters.length
  ))

/** Waits until so many contend for the lock. */
export const untilContenders = (kv: Kv.Kv, name: string, count: number): Effect.Effect<void, KvError> =>
  soon(`${count} contenders for ${name}`, Effect.map(contenders(kv, name), (found) => found === count))

/** A contender that runs in the background. It has entered the queue when this returns; then it is let in or waits. */
export const contend = Effect.fnUntraced(function*<A, E>(
  kv: Kv.Kv,
  name: string,
  options: DistLock.Options | undefined,
  use: (lock: DistLock.Lock) => Effect.Effect<A, E, Kv.Kv>
): Effect.fn.Return<Fiber.Fiber<A, E | DistLock.Failure>, KvError, Scope.Scope> {
  const before = yield* contenders(kv, name)
  const fiber = yield* Effect.forkScoped(on(kv)(DistLock.withLock(name, options, use)))
  yield* untilContenders(kv, name, before + 1)
  return fiber
})

/** A contender that does nothing with the lock but tell its token, and gives it back. */
export const queue = (kv: Kv.Kv, name: string, options?: DistLock.Options) =>
  contend(kv, name, options, (lock) => Effect.succeed(lock.token))

/** The lock can be had at once: nobody holds it or waits for it, and nothing is left of those who did. */
export const isFree = Effect.fnUntraced(function*(kv: Kv.Kv, name: string) {
  assert.strictEqual(yield* contenders(kv, name), 0, `${name} is free`)
  const lock = yield* Effect.scoped(on(kv)(DistLock.tryAcquire(name)))
  assert.isTrue(Option.isSome(lock), `${name} can be had`)
  assert.strictEqual(yield* kv.count(KeyRange.prefix(`${name}/`)), 0)
})

/** Lets time pass until the fiber has ended, for at most so many steps of `waitUntil`, and gives how. */
export const exitOf = Effect.fnUntraced(function*<A, E>(what: string, fiber: Fiber.Fiber<A, E>, atMost?: number) {
  yield* waitUntil(what, Effect.sync(() => fiber.pollUnsafe() !== undefined), atMost)
  return fiber.pollUnsafe()!
})

/** The error that ended it. */
export const errorOf = <A, E>(exit: Exit.Exit<A, E>): E | undefined => {
  if (Exit.isSuccess(exit)) return undefined
  const reason = exit.cause.reasons.find((reason) => reason._tag === "Fail")
  return reason?._tag === "Fail" ? reason.error : undefined
}

/** It ended with this failure, and is given. */
export const failedWith = <E extends { readonly _tag: string }, Tag extends E["_tag"]>(
  exit: Exit.Exit<unknown, E>,
  tag: Tag
): Extract<E, { readonly _tag: Tag }> => {
  const error = errorOf(exit)
  assert.strictEqual(error?._tag, tag, String(exit))
  return error as Extract<E, { readonly _tag: Tag }>
}
