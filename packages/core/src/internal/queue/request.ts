/**
 * Checks of a request to enter queues, before anything is sent.
 */
import * as Array from "effect/Array"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type { Kv } from "../../service/KvService.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import * as KvError from "../../values/KvError.ts"
import * as guard from "../kv/guard.ts"
import * as internals from "../kv/internals.ts"
import { maxTtlSeconds } from "../values/grantSeconds.ts"
import * as holdings from "./holdings.ts"
import type { AcquireOptions, LockNames } from "./model.ts"

export const invalid = (message: string): Exit.Exit<never, KvError.KvError> =>
  Exit.fail(KvError.make(new KvError.InvalidRequest({ message })))

/** Rejects a fiber that would wait for what it holds itself: it would wait until that is lost. */
export const notWaitingForItself = (
  kv: Kv,
  queues: ReadonlyArray<holdings.Claimed>,
  kind: "lock" | "run" = "lock"
): Effect.Effect<void, KvError.KvError> =>
  Effect.withFiber((fiber) => unlessProblem(waitForItself(fiber, kv, queues, kind)))

/** The problem with a fiber that would wait for itself; `undefined` if it would not. */
export const waitForItself = (
  fiber: Fiber.Fiber<unknown, unknown>,
  kv: Kv,
  queues: ReadonlyArray<holdings.Claimed>,
  kind: "lock" | "run" = "lock"
): string | undefined => {
  const current = fiber.getRef(holdings.Holdings)
  if (current.length === 0) return undefined
  const held = holdings.heldBy(current, kv, queues, fiber.id)
  return held === undefined
    ? undefined
    : kind === "run"
    ? `the fiber is in the run ${JSON.stringify(held)} and would wait for its end`
    : `the fiber already holds ${
      JSON.stringify(held)
    } and would wait for itself: release it first, or do both under one acquisition`
}

/** Rejects more locks than fit into the conditions of one fenced write. */
export const roomForFence = (kv: Kv, locks: number): Effect.Effect<void, KvError.KvError> =>
  Effect.withFiber((fiber) => unlessProblem(tooManyLocks(fiber, kv, locks)))

/** The problem with so many locks under the fences of the fiber; `undefined` if there is room for them. */
export const tooManyLocks = (
  fiber: Fiber.Fiber<unknown, unknown>,
  kv: Kv,
  locks: number
): string | undefined => guard.tooMany(guard.reserved(internals.of(kv).origin, fiber) + locks)

type Durations = AcquireOptions & { readonly maxHold?: Duration.Input | undefined }

/** Rejects invalid durations. */
export const checkDurations = (options: Durations | undefined): Effect.Effect<void, KvError.KvError> =>
  unlessProblem(invalidDuration(options))

/** The problem with a duration; `undefined` if there is none. */
export const invalidDuration = (options: Durations | undefined): string | undefined => {
  if (options === undefined) return undefined
  for (const name of ["acquireTimeout", "maxHold", "ttl"] as const) {
    const input = options[name]
    if (input === undefined) continue
    const duration = Duration.fromInput(input)
    // `Duration` reads NaN as zero.
    const isValid = !Number.isNaN(input) && Option.isSome(duration) && !Duration.isNegative(duration.value)
    if (name === "ttl" ? isValid && isTtl(input) : isValid) continue
    return `${name} must be a duration ${
      name === "ttl" ? `of more than 0 and at most ${maxTtlSeconds} seconds` : "of 0 or more"
    }, not ${printed(input)}`
  }
  return undefined
}

const unlessProblem = (problem: string | undefined): Effect.Effect<void, KvError.KvError> =>
  problem === undefined ? Effect.void : invalid(problem)

const isTtl = (ttl: Duration.Input): boolean => {
  const seconds = Duration.toSeconds(ttl)
  return seconds > 0 && seconds <= maxTtlSeconds
}

const printed = (input: Duration.Input): string =>
  Duration.isDuration(input) ? Duration.format(input) : typeof input === "object" ? JSON.stringify(input) : `${input}`

/** Each name once, in the same order for every client: clients that acquire locks in one order cannot deadlock. */
export const inOrder = (names: LockNames): Exit.Exit<NonEmptyReadonlyArray<string>, KvError.KvError> => {
  const all = typeof names === "string" ? [names] : [...new Set(names)].sort(KeyRange.compareKeys)
  for (const name of all) {
    const problem = KeyRange.invalidKey(name)
    if (problem !== undefined) return invalid(`the name of a lock is a key, and ${problem}`)
  }
  return Array.isReadonlyArrayNonEmpty(all) ? Exit.succeed(all) : invalid("name at least one lock")
}
