/**
 * Transformations of a watcher's `take` that never lose a revision.
 *
 * An interrupted `take` must leave its revisions to the next one. A plain `Effect.map` does not: a fiber may be
 * interrupted between an effect and the function mapped over it. So the taken value is held until the step that returns
 * it.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"

/** Returns what `f` makes of the next value, and takes again as long as that is `undefined`. */
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

/** As {@link filterMap}, but ends after the value for which `f` returns `isLast`. */
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
