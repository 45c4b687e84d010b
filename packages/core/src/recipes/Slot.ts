/**
 * Slots: each of at most N clients holds an index from 0 to N - 1 that no other has, such as the machine id of an id
 * generator.
 *
 * `use` is what most programs need. It takes the lowest free index, runs the effect, interrupts it when the slot is lost,
 * and fences its writes. A cool-down keeps an index unused for a while after its holder has stopped.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { dual } from "effect/Function"
import * as Scope from "effect/Scope"
import * as internals from "../internal/kv/internals.ts"
import * as holdSpan from "../internal/queue/holdSpan.ts"
import * as acquireSlot from "../internal/slot/acquireSlot.ts"
import { HeldSlot } from "../internal/slot/heldSlot.ts"
import { type Options, type Slot, SlotsTaken } from "../internal/slot/model.ts"
import * as Fence from "../service/Fence.ts"
import { Kv } from "../service/Kv.ts"
import * as KvError from "../values/KvError.ts"
import { LockLost } from "../values/LockError.ts"

export { SlotsTaken }

export type { Options, Slot }

/**
 * Takes the lowest free index, and holds it until the scope closes.
 *
 * **Details**
 *
 * If several clients take a slot at the same moment, one of them may get an index that is not the lowest.
 *
 * **Gotchas**
 *
 * The scope's owner is not interrupted when the slot is lost, and its writes are not fenced: await `lost`, run work with
 * {@link fenced}, or use {@link use}.
 *
 * @example
 * ```ts
 * import { Slot } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const first = yield* Slot.acquire("snowflake", { size: 1024, coolDown: "5 seconds" })
 *   const second = yield* Slot.acquire("snowflake", { size: 1024, coolDown: "5 seconds" })
 *   const indices = [first.index, second.index] // => [0, 1]
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const acquire = (
  name: string,
  options: Options
): Effect.Effect<Slot, KvError.KvError | SlotsTaken, Kv | Scope.Scope> =>
  Effect.flatMap(Kv, (kv) => internals.of(kv).sessions.onClock(acquireSlot.acquire(kv, name, options)))

/**
 * Runs a function of the slot while holding it.
 *
 * **Details**
 *
 * The effect is interrupted when the slot is lost, before another client can get the index. Then its finalizers run, and
 * the whole fails with `LockLost`. Every write of the effect is fenced: the store rejects it once the slot is not held.
 * The slot is released after the effect's finalizers have run.
 *
 * @example
 * ```ts
 * import { Slot } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Slot.use("snowflake", ({ index }) => Effect.succeed(`id-${index}`), { size: 1024 }) // => "id-0"
 * })
 * ```
 *
 * @since 0.1.0
 */
export const use = <A, E, R>(
  name: string,
  f: (slot: Slot) => Effect.Effect<A, E, R>,
  options: Options
): Effect.Effect<A, E | KvError.KvError | SlotsTaken | LockLost, R | Kv> =>
  Effect.scopedWith((scope) =>
    Effect.flatMap(
      Scope.provide(acquire(name, options), scope),
      (slot) => fenced(inHoldOf(slot, Effect.suspend(() => f(slot))), slot)
    )
  )

/** The work under a slot is a child of its hold. */
const inHoldOf = <A, E, R>(slot: Slot, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  slot instanceof HeldSlot ? holdSpan.inside(slot.span, effect) : effect

/**
 * Runs the effect under a slot that {@link acquire} returned, as {@link use} does: fenced, and interrupted when the slot
 * is lost.
 *
 * @example
 * ```ts
 * import { Kv, Slot } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const slot = yield* Slot.acquire("snowflake", { size: 1024 })
 *   yield* Kv.put(`last-id/${slot.index}`, "17").pipe(Slot.fenced(slot))
 *   yield* Kv.get("last-id/0") // => Option.some("17")
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const fenced: {
  (slot: Slot): <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | KvError.KvError | LockLost, R>
  <A, E, R>(effect: Effect.Effect<A, E, R>, slot: Slot): Effect.Effect<A, E | KvError.KvError | LockLost, R>
} = dual(
  2,
  <A, E, R>(effect: Effect.Effect<A, E, R>, slot: Slot): Effect.Effect<A, E | KvError.KvError | LockLost, R> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.gen(function*() {
        if (!(slot instanceof HeldSlot)) {
          const message = "only a slot that acquire returned can fence an effect"
          return yield* KvError.fail(new KvError.InvalidRequest({ message }))
        }
        // The effect has not begun, so the outcome of this loss stays `NotApplied`.
        if (!slot.isHeldUnsafe()) {
          return yield* Effect.fail(yield* slot.lose("it was not held when its work was to begin"))
        }
        const ended: { exit?: Exit.Exit<A, E> } = {}
        const observed = Effect.onExit(Fence.provide(effect, slot.fence), (exit) =>
          Effect.sync(() => {
            ended.exit = exit
          }))
        const exit = yield* Effect.exit(restore(Effect.raceFirst(observed, slot.lost)))
        if (slot.isHeldUnsafe()) return yield* exit
        yield* slot.lose("it was not held any more when its work was done")
        const loss = yield* Effect.flip(slot.lost)
        return yield* Effect.failCause(
          Cause.fromReasons<E | LockLost>([Cause.makeFailReason(loss), ...ownReasons(ended.exit, slot.token)])
        )
      })
    )
)

/** The failures of the effect besides the slot's loss, also one that the loss has interrupted. */
const ownReasons = <E>(exit: Exit.Exit<unknown, E> | undefined, token: bigint): ReadonlyArray<Cause.Reason<E>> => {
  const reasons = exit !== undefined && Exit.isFailure(exit) ? exit.cause.reasons : []
  return reasons.filter((reason) => {
    if (Cause.isInterruptReason(reason)) return false
    const failure: unknown = Cause.isFailReason(reason) ? reason.error : reason.defect
    const loss = KvError.isKvError(failure) ? failure.reason : failure
    return !(loss instanceof LockLost && loss.token === token)
  })
}
