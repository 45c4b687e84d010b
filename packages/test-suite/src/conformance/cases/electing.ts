/**
 * Candidates, leaders and observers for cases about elections.
 */
import * as Election from "@effect-kv/core/Election"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { promptly } from "./Case.ts"
import { on, soon, untilContenders } from "./locking.ts"

/** Campaigns, and returns once it leads. */
export const lead = (kv: Kv.Kv, name: string, options?: Election.CampaignOptions) =>
  promptly(`the leadership of ${name}`, on(kv)(Election.campaign(name, options)))

/** Enters the election, and returns once the candidate is in the queue. */
export const enter = (kv: Kv.Kv, name: string, options?: Parameters<typeof Election.enter>[1]) =>
  promptly(`the queue of ${name}`, on(kv)(Election.enter(name, options)))

/** Starts a candidate in the background, and returns once it waits in the queue or, if it is the first, leads. */
export const candidate = Effect.fnUntraced(function*<A, E>(
  kv: Kv.Kv,
  name: string,
  f: (leadership: Election.Leadership) => Effect.Effect<A, E, Kv.Kv>,
  options?: Election.Options
): Effect.fn.Return<Fiber.Fiber<A, E | Election.Failure>, KvError.KvError, Scope.Scope> {
  const before = (yield* on(kv)(Election.candidates(name))).length
  let hasStarted = false
  const fiber = yield* Effect.forkScoped(
    on(kv)(Election.use(
      name,
      (leadership) => {
        hasStarted = true
        return f(leadership)
      },
      options
    ))
  )
  if (before > 0) yield* untilContenders(kv, name, before + 1)
  else yield* soon("it leads", Effect.sync(() => hasStarted || fiber.pollUnsafe() !== undefined))
  return fiber
})

export const token = (leadership: Election.Leadership) => Effect.succeed(leadership.token)

/** The values of all candidates, the leader's first. */
export const values = (kv: Kv.Kv, name: string) =>
  Effect.map(on(kv)(Election.candidates(name)), (all) => all.map(({ value }) => value))

/** Follows an election. Each leader is recorded as its value, and a vacancy as `none`. */
export const follow = Effect.fnUntraced(function*(kv: Kv.Kv, name: string) {
  const seen: Array<string> = []
  const fiber = yield* Election.observe(name).pipe(
    Stream.runForEach((leader) =>
      Effect.sync(() => seen.push(Option.match(leader, { onNone: () => "none", onSome: ({ value }) => value })))
    ),
    on(kv),
    Effect.forkScoped
  )
  const until = (...expected: ReadonlyArray<string>) =>
    Effect.andThen(
      soon(
        `${expected.length} leaders are seen, not ${seen.join()}`,
        Effect.sync(() => seen.length >= expected.length)
      ),
      Effect.sync(() => assert.deepStrictEqual(seen, [...expected]))
    )
  yield* soon("the first leader is seen", Effect.sync(() => seen.length > 0))
  return { seen, until, fiber }
})

/** Asserts that no candidate and no key is left. */
export const isVacant = Effect.fnUntraced(function*(kv: Kv.Kv, name: string) {
  yield* soon(`${name} has no key`, Effect.map(kv.count(KeyRange.prefix(`${name}/`)), (count) => count === 0))
  assert.deepStrictEqual(yield* on(kv)(Election.leader(name)), Option.none())
})
