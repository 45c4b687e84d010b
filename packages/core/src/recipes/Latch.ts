/**
 * Latches: many wait until some have arrived. Use one to start work when all shards are loaded, or as a gate that an
 * operator opens.
 *
 * An arrival is a key that is named by its participant, so it counts once however often it is repeated. It has no lease:
 * who has arrived may leave, or crash.
 */
import * as Effect from "effect/Effect"
import { execute } from "../backend/KvBackend.ts"
import * as internals from "../internal/kv/internals.ts"
import * as latchWait from "../internal/rendezvous/latchWait.ts"
import * as rounds from "../internal/rendezvous/rounds.ts"
import { Kv } from "../service/Kv.ts"
import * as KeyRange from "../values/KeyRange.ts"
import type * as KvError from "../values/KvError.ts"
import * as Op from "../values/Op.ts"

/**
 * Arrives at the latch. The same participant counts once, so a call whose outcome is unknown can be repeated.
 *
 * @example
 * ```ts
 * import { Latch } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Latch.countDown("loaded", { id: "shard 1" })
 *   yield* Latch.countDown("loaded", { id: "shard 1" })
 *   yield* Latch.arrived("loaded") // => ["shard 1"]
 * })
 * ```
 *
 * @since 0.1.0
 */
export const countDown = Effect.fnUntraced(function*(
  name: string,
  options: { readonly id: string }
): Effect.fn.Return<void, KvError.KvError, Kv> {
  const kv = yield* Kv
  yield* rounds.checkNames(name, options.id)
  const base = baseOf(name)
  yield* rounds.change(kv, base, ({ round }) => [Op.put(rounds.participantKeyOf(base, round, options.id), "")])
})

/**
 * Waits until as many participants have arrived, or the latch was opened. The arrivals of a round that was reset do not
 * count. A call that was waiting when the latch opened returns, even if the latch is reset at once.
 *
 * **Details**
 *
 * It continues through outages of the store, and fails with `Closed` or `PermissionDenied`. `Effect.timeout` limits the
 * wait, and leaves nothing behind.
 *
 * @example
 * ```ts
 * import { Latch } from "@effect-kv/core"
 * import { Effect, Fiber } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const waiting = yield* Effect.forkChild(Effect.as(Latch.await("loaded", { count: 2 }), "go"))
 *   yield* Latch.countDown("loaded", { id: "shard 1" })
 *   yield* Latch.countDown("loaded", { id: "shard 2" })
 *   yield* Fiber.join(waiting) // => "go"
 * })
 * ```
 *
 * @since 0.1.0
 */
const await_ = (name: string, options: { readonly count: number }): Effect.Effect<void, KvError.KvError, Kv> =>
  Effect.gen(function*() {
    const { sessions, unfenced } = internals.of(yield* Kv)
    yield* rounds.checkNames(name, undefined)
    yield* rounds.checkCount("the count of a latch", options.count)
    yield* sessions.onClock(Effect.scoped(latchWait.untilOpen(unfenced, baseOf(name), options.count)))
  })

export {
  /** @see await_ */
  await_ as await
}

/**
 * The participants that have arrived in this round.
 *
 * @example
 * ```ts
 * import { Latch } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Latch.arrived("loaded") // => []
 * })
 * ```
 *
 * @since 0.1.0
 */
export const arrived = Effect.fnUntraced(function*(
  name: string
): Effect.fn.Return<ReadonlyArray<string>, KvError.KvError, Kv> {
  const { unfenced } = internals.of(yield* Kv)
  yield* rounds.checkNames(name, undefined)
  const base = baseOf(name)
  const { round } = yield* rounds.of((yield* execute(unfenced, Op.get(rounds.recordOf(base)))).entries[0])
  const range = KeyRange.prefix(rounds.prefixOf(base, round))
  const { entries } = yield* execute(unfenced, Op.range(range, { keysOnly: true }))
  return entries.flatMap(({ key }) => rounds.participantOf(base, round, key) ?? [])
})

/**
 * Opens the latch, whether or not all have arrived. It stays open until it is reset.
 *
 * @example
 * ```ts
 * import { Latch } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Latch.open("deployment")
 *   yield* Effect.as(Latch.await("deployment", { count: 5 }), "go") // => "go"
 * })
 * ```
 *
 * @since 0.1.0
 */
export const open = Effect.fnUntraced(function*(name: string): Effect.fn.Return<void, KvError.KvError, Kv> {
  const kv = yield* Kv
  yield* rounds.checkNames(name, undefined)
  const base = baseOf(name)
  yield* rounds.change(kv, base, ({ opened, round }) => [
    Op.put(rounds.recordOf(base), rounds.encode({ round, open: true, ...(opened === undefined ? {} : { opened }) }))
  ])
})

/**
 * Closes the latch and begins the next round, without arrivals.
 *
 * @example
 * ```ts
 * import { Latch } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Latch.countDown("loaded", { id: "shard 1" })
 *   yield* Latch.reset("loaded")
 *   yield* Latch.arrived("loaded") // => []
 * })
 * ```
 *
 * @since 0.1.0
 */
export const reset = Effect.fnUntraced(function*(name: string): Effect.fn.Return<void, KvError.KvError, Kv> {
  const kv = yield* Kv
  yield* rounds.checkNames(name, undefined)
  const base = baseOf(name)
  yield* rounds.change(kv, base, ({ open, opened, round }) => {
    const last = open === true ? round : opened
    return [
      Op.deleteRange(KeyRange.prefix(rounds.prefixOf(base, round))),
      Op.put(
        rounds.recordOf(base),
        rounds.encode({ round: round + 1, ...(last === undefined ? {} : { opened: last }) })
      )
    ]
  })
})

const baseOf = (name: string): rounds.Base => `${name}/latch`
