/**
 * Helpers for cases that strike a recipe at each of its steps, and check that nothing is left.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { type Environment, waitUntil } from "./Case.ts"
import * as faults from "./faults.ts"
import { soon } from "./locking.ts"

/** A recipe that is struck. */
export interface Recipe {
  /** Prepares a name, before anything is struck. */
  readonly prepare: (kv: Kv.Kv, name: string) => Effect.Effect<unknown, unknown>
  /** Acquires, and releases at once. */
  readonly attempt: (kv: Kv.Kv, name: string) => Effect.Effect<unknown, unknown>
  /** Makes an attempt wait. Returns the effect that lets it proceed. */
  readonly block: (kv: Kv.Kv, name: string) => Effect.Effect<Effect.Effect<void>, unknown, Environment>
  /** How many keys are left of a name that is not used any more. */
  readonly keysLeft: number
}

/** Calls in a fixed order: not those that are made by timers, and not the second request for a lease. */
const isStep = (seen: faults.Faults, call: faults.Call): boolean =>
  call.kind === "leaseGrant" && call.lease === seen.leases[0] || call.kind === "execute" ||
  call.kind === "watch" && call.request?.startRevision === undefined

interface Point {
  readonly isBlocked: boolean
  readonly when: "before" | "after"
  readonly n: number
}

/** More calls than any attempt makes. */
const manySteps = 8

const points = [false, true].flatMap((isBlocked) =>
  (["before", "after"] as const).flatMap((when) =>
    Array.from({ length: manySteps }, (_, i): Point => ({ isBlocked, when, n: i + 1 }))
  )
)

/**
 * Strikes an attempt before the n-th call is sent, or after the response to it, for all n that are reached. Then nothing
 * is left: no key, lease, watch or call. Returns how many steps were struck.
 */
export const atEachStep = Effect.fnUntraced(function*(
  kv: Kv.Kv,
  prefix: string,
  recipe: Recipe,
  how: "interrupted" | "without a response"
): Effect.fn.Return<number, unknown, Environment> {
  const attempts = yield* Effect.forEach(
    points,
    (point) => strike(kv, `${prefix}/${point.isBlocked}/${point.when}/${point.n}`, recipe, point, how),
    { concurrency: 4 }
  )
  for (const attempt of attempts) yield* nothingIsLeft(kv, attempt, recipe)
  return attempts.filter(({ isStruck }) => isStruck).length
})

interface Attempt {
  readonly name: string
  readonly seen: faults.Faults
  readonly fiber: Fiber.Fiber<unknown, unknown>
  readonly isStruck: boolean
}

const strike = Effect.fnUntraced(function*(
  kv: Kv.Kv,
  name: string,
  recipe: Recipe,
  { isBlocked, n, when }: Point,
  how: "interrupted" | "without a response"
): Effect.fn.Return<Attempt, unknown, Environment> {
  const seen = faults.make()
  const client = yield* faults.newClientWith(seen)
  yield* recipe.prepare(kv, name)
  const proceed = isBlocked ? yield* recipe.block(kv, name) : Effect.void
  const barrier = yield* faults.barrier
  let step = 0
  let isStruck = false
  seen[when] = (call): Effect.Effect<void, KvError> => {
    if (!isStep(seen, call) || ++step !== n) return Effect.void
    isStruck = true
    if (how === "interrupted") return barrier.stop
    return faults.isEntry(call) || faults.isRemoval(call) || call.kind === "leaseGrant"
      ? faults.lostResponse
      : faults.unavailable
  }
  const fiber = yield* Effect.forkScoped(recipe.attempt(client, name))
  const isOver = () => isStruck || fiber.pollUnsafe() !== undefined
  if (isBlocked) {
    let before = -1
    const waits = Effect.sync(() => {
      const isIdle = before === step && seen.pending === 0 && seen.watches > 0
      before = step
      return isOver() || isIdle
    })
    yield* soon(`${name} waits`, waits)
    if (!isOver()) yield* proceed
  }
  yield* soon(`${name} is struck or ends`, Effect.sync(isOver))
  if (how === "interrupted") {
    yield* Effect.forkScoped(Fiber.interrupt(fiber))
    yield* Effect.yieldNow
    yield* barrier.letGo
  }
  yield* proceed
  return { name, seen, fiber, isStruck }
})

/** Fails unless the attempt has left nothing behind, in the store and in its client. */
const nothingIsLeft = Effect.fnUntraced(function*(kv: Kv.Kv, { fiber, name, seen }: Attempt, recipe: Recipe) {
  yield* waitUntil(`${name} has ended`, Effect.sync(() => fiber.pollUnsafe() !== undefined))
  const exit = fiber.pollUnsafe()!
  assert.isFalse(Exit.isFailure(exit) && Exit.hasDies(exit), String(exit))
  yield* waitUntil(
    `${name}: nothing is in flight, and no watch is open`,
    Effect.sync(() => seen.pending === 0 && seen.watches === 0)
  )
  for (const lease of seen.leases) {
    yield* waitUntil(
      `${name}: its lease is revoked`,
      Effect.map(Effect.exit(backendOf(kv).leaseTimeToLive(lease)), Exit.isFailure)
    )
  }
  yield* waitUntil(
    `${name}: its keys are gone`,
    Effect.map(kv.count(KeyRange.prefix(`${name}/`)), (count) => count === recipe.keysLeft)
  )
})
