/**
 * The clock that a client's sessions live by, known by the client's backends: `Session.make` is given nothing else.
 */
import type * as Effect from "effect/Effect"
import type { KvBackend } from "../../backend/KvBackend.ts"

type OnClock = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

const clocks = new WeakMap<KvBackend, OnClock>()

/** The backend, as one whose sessions live by that clock. */
export const keeps = (onClock: OnClock, backend: KvBackend): KvBackend => {
  clocks.set(backend, onClock)
  return backend
}

/** Runs the effect on the clock of the backend's client; of a backend that is none's, on the current one. */
export const onClockOf = (backend: KvBackend): OnClock => clocks.get(backend) ?? ((effect) => effect)
