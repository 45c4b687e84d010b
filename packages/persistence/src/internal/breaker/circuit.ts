/**
 * One circuit as a value: its state, and how outcomes of calls change it. Nothing here reads a store or a clock.
 */
import * as Duration from "effect/Duration"
import type { Transition, TripPolicy } from "effect/persistence/CircuitBreaker"
import * as Schema from "effect/Schema"

/**
 * What the key of a circuit holds. A circuit that was never written is closed.
 *
 * The generation is the revision of the state before the last transition, which no other transition of the key has. Calls
 * that were admitted with another generation change nothing.
 */
export const Circuit = Schema.Struct({
  state: Schema.Literals(["Closed", "Open", "HalfOpen"]),
  generation: Schema.Number,
  /** Failures in a row, under a `Consecutive` policy. */
  streak: Schema.Number,
  /** The last outcomes under a `Rate` policy, the oldest first: `1` for a failure, `0` for a success. */
  ring: Schema.String,
  /** Openings since the backoff was last reset. */
  openings: Schema.Number,
  /** How long the circuit was, or is, open, and until when, in milliseconds. */
  openFor: Schema.Number,
  openUntil: Schema.Number,
  /** When the count of openings is reset if the circuit stays closed, in milliseconds. */
  resetAt: Schema.Number,
  /** Distinguishes the writes of processes, so that one whose response was lost can be recognised. */
  writer: Schema.String
})

export interface Circuit extends Schema.Schema.Type<typeof Circuit> {}

/** The state of a circuit that has no key. */
export const initial: Circuit = {
  state: "Closed",
  generation: 0,
  streak: 0,
  ring: "",
  openings: 0,
  openFor: 0,
  openUntil: 0,
  resetAt: 0,
  writer: ""
}

/**
 * The time that an open circuit stays open. The process that opened it set `openUntil`, by its clock. The open time since
 * the circuit was seen is measured by the monotonic clock, so a clock that is behind, or is set back, cannot prolong it.
 */
export const remaining = (
  { openFor, openUntil }: Circuit,
  now: { readonly wallMillis: number; readonly sinceSeenMillis: number }
): number => Math.max(0, Math.min(openUntil - now.wallMillis, openFor - now.sinceSeenMillis))

/** The openings that count for the backoff of the next one. */
export const openingsAt = ({ openings, resetAt, state }: Circuit, now: number): number =>
  state === "Closed" && now >= resetAt ? 0 : openings

/** An outcome of a call. */
export interface Outcome {
  readonly generation: number
  readonly outcome: "Success" | "Failure" | "Ignored"
  readonly tripPolicy: TripPolicy
  readonly openFor: Duration.Duration
}

/** What an outcome makes of a circuit: `circuit` is the same value if it changes nothing. */
export interface Step {
  readonly circuit: Circuit
  readonly transition: Transition | undefined
}

/** Applies an outcome. `revision` is that of the circuit before, `0` if it has no key. */
export const step = (key: string, circuit: Circuit, revision: number, outcome: Outcome, now: number): Step => {
  if (outcome.generation !== circuit.generation || outcome.outcome === "Ignored") return unchanged(circuit)
  switch (circuit.state) {
    case "Open":
      return unchanged(circuit)
    case "HalfOpen":
      return outcome.outcome === "Failure"
        ? opened(key, circuit, revision, outcome.openFor, now)
        : closed(key, circuit, revision, now)
    case "Closed": {
      const counted = count(circuit, outcome.tripPolicy, outcome.outcome === "Failure")
      return trips(counted, outcome.tripPolicy)
        ? opened(key, { ...counted, openings: openingsAt(counted, now) }, revision, outcome.openFor, now)
        : unchanged(counted)
    }
  }
}

const unchanged = (circuit: Circuit): Step => ({ circuit, transition: undefined })

const count = (circuit: Circuit, policy: TripPolicy, isFailure: boolean): Circuit => {
  if (policy._tag === "Consecutive") {
    const streak = isFailure ? circuit.streak + 1 : 0
    return streak === circuit.streak ? circuit : { ...circuit, streak }
  }
  const ring = `${circuit.ring}${isFailure ? "1" : "0"}`.slice(-policy.size)
  return { ...circuit, ring }
}

const trips = ({ ring, streak }: Circuit, policy: TripPolicy): boolean => {
  if (policy._tag === "Consecutive") return streak >= policy.failures
  const failures = ring.replaceAll("0", "").length
  return ring.length >= policy.minimumCalls && failures > 0 && failures / ring.length >= policy.threshold
}

const opened = (
  key: string,
  circuit: Circuit,
  revision: number,
  openFor: Duration.Duration,
  now: number
): Step => {
  const from = circuit.state === "HalfOpen" ? "HalfOpen" : "Closed"
  const openings = circuit.openings + 1
  const millis = Math.min(Duration.toMillis(openFor), maxMillis)
  return {
    circuit: {
      ...circuit,
      state: "Open",
      generation: revision,
      streak: 0,
      ring: "",
      openings,
      openFor: millis,
      openUntil: now + millis
    },
    transition: { key, from, to: "Open", retryAfter: openFor, consecutiveOpenings: openings }
  }
}

/** JSON has no infinity. No circuit opens again after 35,000 years. */
const maxMillis = 2 ** 50

const closed = (key: string, circuit: Circuit, revision: number, now: number): Step => ({
  circuit: { ...circuit, state: "Closed", generation: revision, resetAt: now + circuit.openFor },
  transition: { key, from: "HalfOpen", to: "Closed" }
})

/** The circuit with a probe that is admitted now. */
export const probing = (circuit: Circuit, revision: number): Circuit => ({
  ...circuit,
  state: "HalfOpen",
  generation: revision
})
