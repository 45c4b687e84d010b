/**
 * The fences of a fiber: a reference that every `Kv` reads when one of its calls runs.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Compare from "../../values/Compare.ts"
import type * as KvError from "../../values/KvError.ts"

/**
 * Makes the writes of a client conditional.
 *
 * @since 0.1.0
 */
export interface Fence {
  /** The client whose writes are fenced: one `Kv.make`, with all its namespaces. */
  readonly client: object
  /** The conditions that must hold in the store, on keys of the client's root. `Fence.make` makes them. */
  readonly conditions: ReadonlyArray<Compare.Compare>
  /** False if it is known, without a request, that the conditions no longer hold. */
  readonly isHeldUnsafe: () => boolean
  /** The failure of a write that is not sent because `isHeldUnsafe` is false. */
  readonly notHeld: Effect.Effect<never, KvError.KvError>
  /** The failure of a write that the store rejected because one of the conditions does not hold. */
  readonly rejected: Effect.Effect<never, KvError.KvError>
}

/** The fences of the current fiber, the outermost first. Default: none. */
export const Current: Context.Reference<ReadonlyArray<Fence>> = Context.Reference("@effect-kv/core/Fence/Current", {
  defaultValue: (): ReadonlyArray<Fence> => []
})

/** Runs the effect, and every fiber it starts, without fences. */
export const unfenced = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.provideService(effect, Current, [])

/** Whether a call is exempt from every fence, including a fence of the `Kv` itself. */
export const IsExempt: Context.Reference<boolean> = Context.Reference("@effect-kv/core/Fence/IsExempt", {
  defaultValue: () => false
})

/** Exempts a call from every fence, including the fences of another `Kv` that it goes through. */
export const exempt = <A, E, R>(call: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.updateContext(
    call,
    (context: Context.Context<R>) => Context.add(Context.add(context, Current, []), IsExempt, true)
  )

/** Runs the effect, and every fiber it starts, with one more fence. */
export const add = <A, E, R>(effect: Effect.Effect<A, E, R>, fence: Fence): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) => Effect.provideService(effect, Current, [...fiber.getRef(Current), fence]))
