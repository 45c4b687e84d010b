/**
 * The `Watcher` that a consumer reads, made from a watch of the store.
 */
import type { KvError } from "@effect-kv/core/KvError"
import * as Watch from "@effect-kv/core/Watch"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { StoreWatch } from "./storeWatch.ts"

export const make = (watch: StoreWatch): Watch.Watcher => ({
  revision: watch.revision,
  take: take(watch),
  status: Stream.concat(
    Stream.succeed(Watch.live(watch.revision)),
    Stream.fromEffectDrain(waitFor((signal) => watch.onEnded(signal)))
  )
})

const take = (watch: StoreWatch): Effect.Effect<NonEmptyReadonlyArray<Watch.Revision>, KvError> => {
  const untilUnread = waitFor((signal) => watch.onUnread(signal))
  const self: Effect.Effect<NonEmptyReadonlyArray<Watch.Revision>, KvError> = Effect.suspend(() => {
    const failure = watch.failure()
    if (failure !== undefined) return Effect.fail(failure)
    const unread = watch.unread()
    // `Effect.sync` does not yield between the read and its result, so the watch advances only if the revisions arrive.
    return unread === undefined ? Effect.andThen(untilUnread, self) : Effect.sync(() => watch.read(unread))
  })
  return self
}

/**
 * Waits for a signal. The fiber resumes in a later task, because the signal is called in the middle of a write.
 */
const waitFor = (register: (signal: () => void) => () => void): Effect.Effect<void> =>
  Effect.withFiber((fiber) =>
    Effect.callback<void>((resume) => {
      const cancel = register(() => fiber.currentDispatcher.scheduleTask(() => resume(Effect.void), 0))
      return Effect.sync(cancel)
    })
  )
