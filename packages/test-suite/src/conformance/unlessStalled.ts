/**
 * Another attempt of a case that failed while the event loop was stalled.
 *
 * A case that waits holds the client to times that a server keeps: a holder ends before its lease does. On a machine that
 * does not let this process run for half a second it cannot, which says nothing of the backend.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { type Environment, Store } from "./cases/Case.ts"

/** How many attempts there are at most. */
export const mostAttempts = 3

/** The time before a failure in which a stall may have caused it, in milliseconds: a time to live of most cases. */
const recent = 3000

/** The part of a time that stalls must take to explain a failure. */
const explainingPart = 1 / 6

/** The first attempt writes where the case says, and every further one in a namespace of its own. */
export const unlessStalled = (
  run: Effect.Effect<void, unknown, Environment>,
  attempt = 1
): Effect.Effect<void, unknown, Store> =>
  Effect.flatMap(
    observed(Effect.scoped(attempt === 1 ? run : Effect.updateService(run, Store, inNamespace(`attempt-${attempt}/`)))),
    ({ exit, isStalled }) =>
      Exit.isFailure(exit) && isStalled && attempt < mostAttempts
        ? Effect.suspend(() => unlessStalled(run, attempt + 1))
        : exit
  )

const inNamespace = (prefix: string) => (store: Store["Service"]): Store["Service"] => ({
  ...store,
  client: Effect.map(store.client, (kv) => Kv.prefixed(kv, prefix))
})

/** How an effect ended, and whether the event loop was stalled for so long that this may be the reason. */
const observed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.acquireUseRelease(
    Effect.sync(stallsFromNow),
    ({ during }) =>
      Effect.map(Effect.exit(effect), (exit) => ({
        exit,
        isStalled: during(Infinity) > explainingPart || during(recent) > explainingPart
      })),
    ({ stop }) => Effect.sync(stop)
  )

const stallsFromNow = () => {
  const every = 2
  const began = performance.now()
  const stalls: Array<{ readonly from: number; readonly to: number }> = []
  let last = began
  const look = () => {
    const now = performance.now()
    if (now - last > 3 * every) stalls.push({ from: last + every, to: now })
    last = now
  }
  const timer = setInterval(look, every)
  return {
    /** The part of the last milliseconds for which the event loop was stalled. */
    during: (millis: number) => {
      // The stall that has not ended yet.
      look()
      const from = Math.max(began, last - millis)
      const stalled = stalls.reduce((sum, stall) => sum + Math.max(0, stall.to - Math.max(stall.from, from)), 0)
      return stalled / Math.max(1, last - from)
    },
    stop: () => clearInterval(timer)
  }
}
