/**
 * Barriers: a fixed number of participants wait for each other, and then all continue.
 *
 * A participant is present as long as its lease. If one dies before all have arrived, the others do not wait indefinitely:
 * they fail with `BarrierBroken`, which names it.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as internals from "../internal/kv/internals.ts"
import * as request from "../internal/queue/request.ts"
import * as barrier from "../internal/rendezvous/barrier.ts"
import { BarrierBroken, BarrierRejected } from "../internal/rendezvous/barrierErrors.ts"
import * as rounds from "../internal/rendezvous/rounds.ts"
import { Kv } from "../service/Kv.ts"
import type * as KvError from "../values/KvError.ts"
import * as Op from "../values/Op.ts"

export { BarrierBroken, BarrierRejected }

/**
 * Options of {@link enter}.
 *
 * @since 0.1.0
 */
export interface Options {
  /** How many participants open the barrier: the same number for all of them. */
  readonly parties: number
  /** Identifies the participant in the barrier: no other present participant has it. */
  readonly id: string
  /**
   * What happens if another participant dies before the barrier opens. `fail`: all fail with `BarrierBroken`. `ignore`:
   * this one keeps waiting for another to take its place. Default: `fail`.
   */
  readonly onDeath?: "fail" | "ignore" | undefined
  /**
   * What happens to a participant that comes after the barrier has opened. `fail`: it fails with `BarrierRejected`, so
   * the name is good for one round. `next`: it takes part in the next round. Default: `fail`.
   */
  readonly onLate?: "fail" | "next" | undefined
  /** Time to live of the participant's lease: how long its death goes unnoticed. Default: 10 seconds. */
  readonly ttl?: Duration.Input | undefined
}

/**
 * Enters the barrier and waits until all have entered; returns the number of the round. The participant leaves when the
 * scope closes.
 *
 * **Details**
 *
 * A participant that fails, times out or is interrupted while it waits leaves no key, and does not break the barrier:
 * the others wait for another to take its place. If its lease ends before it could leave, it counts as dead.
 *
 * All participants of a round agree on its end, because that is one write in the store. Any participant that sees
 * that it is due makes it, so the barrier opens even if the last to enter dies right after that.
 *
 * @example
 * ```ts
 * import { Barrier } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const enter = (id: string) => Effect.scoped(Barrier.enter("epoch-7", { parties: 2, id }))
 * const program = Effect.gen(function*() {
 *   yield* Effect.all([enter("a"), enter("b")], { concurrency: "unbounded" }) // => [0, 0]
 *   const error = yield* Effect.flip(enter("c"))
 *   error._tag // => "BarrierRejected"
 * })
 * ```
 *
 * @since 0.1.0
 */
export const enter = (
  name: string,
  options: Options
): Effect.Effect<number, KvError.KvError | BarrierBroken | BarrierRejected, Kv | Scope.Scope> =>
  Effect.gen(function*() {
    const kv = yield* Kv
    yield* rounds.checkNames(name, options.id)
    yield* rounds.checkCount("the parties of a barrier", options.parties)
    yield* request.checkDurations(options)
    return yield* internals.of(kv).sessions.onClock(barrier.enter(kv, name, options))
  })

/**
 * Begins the next round, so that a barrier that has opened can be entered again. Waiting participants keep waiting
 * in it.
 *
 * @example
 * ```ts
 * import { Barrier } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const enter = Effect.scoped(Barrier.enter("epoch-7", { parties: 1, id: "a" }))
 * const program = Effect.gen(function*() {
 *   yield* enter // => 0
 *   yield* Barrier.reset("epoch-7")
 *   yield* enter // => 2
 * })
 * ```
 *
 * @since 0.1.0
 */
export const reset = Effect.fnUntraced(function*(name: string): Effect.fn.Return<void, KvError.KvError, Kv> {
  const kv = yield* Kv
  yield* rounds.checkNames(name, undefined)
  const base = barrier.baseOf(name)
  yield* rounds.change(kv, base, ({ round }) => [Op.put(rounds.recordOf(base), rounds.encode({ round: round + 1 }))])
})
