/**
 * What is made of a watcher's `take` without losing a revision.
 *
 * A `take` that is interrupted must leave what it would have returned to the next one. Between an effect and what is mapped over it a fiber
 * may give way and be interrupted there, so what was taken is held until the very step that hands it on.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"

/** Hands on what `f` makes of each value taken, and takes again where that is `undefined`. */
export const filterMap = <A, B, E>(
  take: Effect.Effect<A, E>,
  f: (taken: A) => B | undefined
): Effect.Effect<B, E> => {
  const held: Held<B> = { value: undefined }
  const next: Effect.Effect<B, E> = Effect.andThen(
    fill(take, f, held),
    Effect.suspend(() => held.value === undefined ? next : empty(held.value, held))
  )
  return next
}

/** As {@link filterMap}, until what was taken says that it was the last: `f` answers with that too. */
export const filterMapUntil = <A, B, E>(
  take: Effect.Effect<A, E>,
  f: (taken: A) => { readonly value: B | undefined; readonly isLast: boolean }
): Effect.Effect<B, E | Cause.Done> => {
  const held: Held<B> = { value: undefined }
  let ended = false
  const record = (taken: A): B | undefined => {
    const { isLast, value } = f(taken)
    ended = isLast
    return value
  }
  const next: Effect.Effect<B, E | Cause.Done> = Effect.suspend(() =>
    ended && held.value === undefined ? Cause.done() : Effect.andThen(
      fill(take, record, held),
      Effect.suspend(() => held.value === undefined ? next : empty(held.value, held))
    )
  )
  return next
}

interface Held<B> {
  value: B | undefined
}

const fill = <A, B, E>(take: Effect.Effect<A, E>, f: (taken: A) => B | undefined, held: Held<B>) =>
  Effect.suspend(() =>
    held.value !== undefined ? Effect.void : Effect.map(take, (taken) => {
      held.value = f(taken)
    })
  )

const empty = <B>(value: B, held: Held<B>): Effect.Effect<B> =>
  Effect.sync(() => {
    held.value = undefined
    return value
  })
