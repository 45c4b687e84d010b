/**
 * Faults of one call.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

/** A fault of one call. Write the object yourself for combinations that no constructor makes. */
export interface Fault {
  /** Its name in `KvFaults.injected`. */
  readonly description: string
  /** The request is not sent: `Unavailable`. */
  readonly isRefused?: boolean
  /** Runs while the request is in flight. */
  readonly onRequest?: Effect.Effect<void>
  /** Runs while the response is in flight. */
  readonly onAnswer?: Effect.Effect<void>
  /** What is lost. The connection breaks then: a write is `Indeterminate`, a read is retried. */
  readonly lose?: "request" | "answer"
  /** The connection does not break at the loss: the caller waits until its deadline. A read is `DeadlineExceeded` then. */
  readonly isSilent?: boolean
  /** The connection breaks as soon as the request is sent, and the request still arrives. */
  readonly isBrokenAtOnce?: boolean
}

/** A fault that loses a request or a response. */
export interface Loss extends Fault {
  readonly lose: "request" | "answer"
}

/** The request is not sent, so it changes nothing: `Unavailable`. */
export const unavailable: Fault = { description: "unavailable", isRefused: true }

/** Delays the request. It arrives at the store even if its deadline passes meanwhile. */
export const delayRequest = (duration: Duration.Input): Fault => ({
  description: `request delayed by ${Duration.format(Duration.fromInputUnsafe(duration))}`,
  onRequest: Effect.sleep(duration)
})

/** Delays the response. */
export const delayAnswer = (duration: Duration.Input): Fault => ({
  description: `answer delayed by ${Duration.format(Duration.fromInputUnsafe(duration))}`,
  onAnswer: Effect.sleep(duration)
})

/** The connection breaks before the request arrives. A write is `Indeterminate`, and was **not** applied. */
export const loseRequest: Loss = { description: "request lost", lose: "request" }

/** The connection breaks before the response arrives. A write is `Indeterminate`, and **was** applied. */
export const loseAnswer: Loss = { description: "answer lost", lose: "answer" }

/** The connection breaks at once, and the request arrives later. A write is `Indeterminate`, and **will be** applied. */
export const applyLate = (duration: Duration.Input): Fault => ({
  description: `connection broken, and request delayed by ${Duration.format(Duration.fromInputUnsafe(duration))}`,
  onRequest: Effect.sleep(duration),
  isBrokenAtOnce: true
})

/** Turns `loseRequest` or `loseAnswer` into a silent loss: the connection stays, and the caller waits until its deadline. */
export const silently = (fault: Loss): Loss => ({
  ...fault,
  description: `${fault.description} silently`,
  isSilent: true
})
